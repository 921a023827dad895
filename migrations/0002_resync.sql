-- What a repair needs: the ids a walk has seen, what was missed, positions retired, what people asked for.

alter table resync drop constraint resync_state_check;
alter table resync add constraint resync_state_check
    check (state in ('running', 'sweeping', 'held', 'completed', 'failed', 'cancelled'));
alter table resync
    add column automatic      boolean not null default false, -- counts towards resync.automatic_per_day_max
    add column start_time     bigint,                         -- cluster time the live stream goes on from: rows older
                                                              -- than it that the walk did not see are swept
    add column blind_from     timestamptz,                    -- the last change known before history was lost
    add column blind_until    timestamptz,                    -- from here on the live stream sees everything
    add column rows_inserted  bigint not null default 0,
    add column rows_changed   bigint not null default 0,
    add column rows_to_delete bigint,                         -- what a held sweep would delete
    add column sample_ids     text[] not null default '{}',
    add column held_code      text,
    add column approved_at    timestamptz,
    add column deadline_at    timestamptz,
    add column note           text;                           -- why it failed or was held, for people

drop index resync_one_running;
create unique index resync_one_open on resync (stream) where state in ('running', 'sweeping', 'held');

create table resync_seen (
    resync_id bigint not null references resync on delete cascade,
    ids       text[] not null                          -- of one chunk
);

create index resync_seen_resync on resync_seen (resync_id);

create table gap_report (
    resync_id     bigint primary key references resync,
    stream        text not null,
    blind_from    timestamptz,                         -- null: not known
    blind_until   timestamptz,
    rows_inserted bigint not null,
    rows_changed  bigint not null,
    rows_deleted  bigint not null,
    sample_ids    text[] not null,
    at            timestamptz not null default now()
);

create table checkpoint_history (
    id           bigint generated always as identity primary key,
    stream       text not null,
    source       text not null,
    options      text not null,
    resume_token bytea,
    token        text,
    cluster_time bigint,
    epoch        bigint not null,
    why          text not null,
    retired_at   timestamptz not null default now()
);

create index checkpoint_history_stream on checkpoint_history (stream, id);

create table command (
    id        bigint generated always as identity primary key,
    verb      text not null,
    stream    text not null,
    arguments jsonb not null default '{}',
    actor     text not null,
    reason    text not null,
    at        timestamptz not null default now(),
    done_at   timestamptz,
    result    text
);

create index command_open on command (stream, id) where done_at is null;
