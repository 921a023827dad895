-- Groups: many streams, one lease, one position. What each stream had of its own is kept until its group has begun, at
-- the oldest of them. An older release cannot work on these tables.

alter table checkpoint rename to stream_position;

create table checkpoint (
    "group"       text not null,
    service       text not null,
    environment   text not null,
    database      text not null,                       -- the position is of its collections
    options       text not null,                       -- the options the token was made under
    resume_token  bytea,                               -- raw BSON; null until the first position
    token         text,                                -- the same for people: hex
    cluster_time  bigint,                              -- seconds << 32 | increment
    begun_time    bigint,                              -- cluster time it began at: need be no entry of the oplog
    epoch         bigint not null default 0,           -- raised at each grant of the lease
    nonce         uuid,                                -- of the present grant
    revision      bigint not null default 0,           -- one more at each advance: tells whether a commit landed
    halt_code     text,                                -- of the group; a stream that is parked says so in its own row
    halt_reason   text,
    version       integer not null default 2,          -- of this row's format; a newer one is refused
    updated_at    timestamptz not null default now(),
    primary key ("group", service, environment)
);

drop table lease;
create table lease (
    "group"       text not null,
    service       text not null,
    environment   text not null,
    holder        text,                                -- host and process, for people
    epoch         bigint not null default 0,
    nonce         uuid,
    expires_at    timestamptz not null default '-infinity',
    granted_at    timestamptz,
    report        jsonb,                               -- what the holder says of the group; of a stream: in its row
    primary key ("group", service, environment)
);

alter table stream
    alter column table_schema drop not null,           -- all three null: the stream's rows are not begun yet
    alter column table_name drop not null,
    alter column table_oid drop not null,
    add column "group"          text,                  -- null: in none, as left by an older release
    add column database         text,
    add column collection       text,
    add column phase            text not null default 'standby',
    add column phase_since      timestamptz not null default now(),
    add column parked_code      text,                  -- why the group goes on without it
    add column parked_reason    text,
    add column letters_accepted bigint not null default 0, -- so many more events may be set aside than an accident brings
    add column ahead_until      bigint,                -- cluster time of the newest content its rows may have
    add column left_at          timestamptz,           -- since when it is not followed: its table is as it was then
    add column report           jsonb;                 -- the holder's status of the stream

update stream as s set letters_accepted = p.letters_accepted from stream_position as p where p.stream = s.stream;

create index stream_group on stream ("group");

alter table resync
    add column walked_since timestamptz,               -- null: it waits for its turn
    add column read_until   bigint;                    -- cluster time of the latest of its reads

update resync set walked_since = started_at where ended_at is null;

alter table checkpoint_history
    alter column stream drop not null,
    add column "group"     text,
    add column service     text,
    add column environment text;

create index checkpoint_history_group on checkpoint_history ("group", id);

delete from attempt;
alter table attempt
    drop constraint attempt_pkey,
    add column service     text not null,
    add column environment text not null,
    add primary key (stream, road, service, environment); -- on the live road `stream` is a group

-- What the tables show, for readers: one row a stream.
create view position as
select s.stream, s."group", c.resume_token, c.token, c.cluster_time, to_timestamp(c.cluster_time >> 32) as wall_time,
       c.epoch, s.phase,
       s.table_oid is not null and s.parked_code is null and s.left_at is null
           and coalesce(c.cluster_time >= coalesce(s.ahead_until, 0), false)
           and not exists (select from dead_letter as d where d.stream = s.stream and d.resolved_at is null) as exact,
       c.updated_at
from stream as s
left join checkpoint as c on c."group" = s."group" and c.service = s.service and c.environment = s.environment;

update release set format_min = 2;
