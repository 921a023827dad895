-- tidemark's own tables. Run with search_path set to the state schema, so names carry no schema here.

create table checkpoint (
    stream        text primary key,
    source        text not null,                       -- database.collection the position belongs to
    options       text not null,                       -- the options the token was made under
    resume_token  bytea,                               -- raw BSON; null until the first position
    token         text,                                -- the same for people: hex
    cluster_time  bigint,                              -- seconds << 32 | increment
    epoch         bigint not null default 0,           -- raised at each grant of the lease
    nonce         uuid,                                -- of the present grant
    revision      bigint not null default 0,           -- one more at each advance: tells whether a commit landed
    phase         text not null default 'standby',
    phase_since   timestamptz not null default now(),
    halt_code     text,
    halt_reason   text,
    version       integer not null default 1,          -- of this row's format; a newer one is refused
    updated_at    timestamptz not null default now()
);

create table lease (
    stream        text primary key,
    holder        text,                                -- host and process, for people
    epoch         bigint not null default 0,
    nonce         uuid,
    expires_at    timestamptz not null default '-infinity',
    granted_at    timestamptz,
    report        jsonb                                -- the holder's status of the stream, as GET /status gives it
);

create table resync (
    id                  bigint generated always as identity primary key,
    stream              text not null,
    reason              text not null,
    state               text not null check (state in ('running', 'completed', 'failed', 'cancelled')),
    walk_class          integer not null default 0,    -- which BSON type class the walk is in
    walk_after          bytea,                         -- the last _id read in it, raw BSON {"": _id}
    documents_read      bigint not null default 0,
    rows_upserted       bigint not null default 0,
    rows_deleted        bigint not null default 0,
    documents_estimated bigint,
    started_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    ended_at            timestamptz
);

create unique index resync_one_running on resync (stream) where state = 'running';

create table dead_letter (
    id           bigint generated always as identity primary key,
    stream       text not null,
    document_id  text,
    operation    text not null,
    event        bytea not null,                       -- raw BSON, whole
    code         text not null,
    error        text not null,
    cluster_time bigint,
    at           timestamptz not null default now(),
    resolved_at  timestamptz
);

create index dead_letter_open on dead_letter (stream, id) where resolved_at is null;
