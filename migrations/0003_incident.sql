-- What people are told: incidents, what of them each channel has still to be told, who tells it, and which processes
-- have run.

create table incident (
    id          bigint generated always as identity primary key,
    tag         uuid not null unique,                  -- in every notice; made before Postgres gave the id
    environment text not null,
    service     text not null,
    code        text not null,
    stream      text,                                  -- null: of an end or the process, not of one stream
    severity    text not null,
    state       text not null check (state in ('open', 'resolving', 'resolved')),
    opened_at   timestamptz not null,
    resolved_at timestamptz,
    count       bigint not null default 1,             -- how often the cause was met
    acked_by    text,
    acked_until timestamptz,
    summary     text not null,
    detail      jsonb not null                         -- the rest of its life: transitions, progress, what was repaired
);

create unique index incident_one_open on incident (environment, service, code, coalesce(stream, ''))
    where resolved_at is null;

create table outbox (
    incident_id bigint not null references incident on delete cascade,
    channel     text not null,
    pending     boolean not null,                      -- there is something this channel has not been told
    told        integer not null default 0,            -- the transition last told, by number
    version     integer not null default 0,            -- an older state never replaces a newer one
    state       jsonb not null default '{}',           -- where the message is and what it shows
    primary key (incident_id, channel)
);

create index outbox_pending on outbox (incident_id) where pending;

create table watch (
    service     text not null,
    environment text not null,
    holder      text not null,
    nonce       uuid not null,
    expires_at  timestamptz not null,
    primary key (service, environment)
);

create table process (
    id         uuid primary key,
    service    text not null,
    holder     text not null,
    version    text not null,
    started_at timestamptz not null default now(),
    seen_at    timestamptz not null default now(),
    ended_at   timestamptz                             -- null and not seen any more: it did not end by itself
);
