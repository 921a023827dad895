-- The weekly summary: what has been counted since the last one, which that was, and who was told.

create table summary (
    service       text not null,
    environment   text not null,
    due_at        timestamptz not null,                -- of the last that was told, or given up
    counted       jsonb not null,                      -- since then
    told          text[] not null default '{}',        -- channels that have the one that is due now
    primary key (service, environment)
);
