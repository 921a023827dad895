-- The documents that a request to resync a part of a stream names, and how far it has come: what it goes on from after a
-- kill.

create table resync_part (
    command_id   bigint primary key references command (id) on delete cascade,
    ids          text[] not null,                      -- as the table's id has them; emptied once all are done
    documents    integer not null,                     -- how many were named
    done         integer not null default 0,           -- so many of ids, from the first on
    rows_written bigint not null default 0,
    rows_deleted bigint not null default 0,
    set_aside    bigint not null default 0
);
