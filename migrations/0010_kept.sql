-- What the live stream met while a resync was open and left as it was: seen, though not by the walk, and not stamped anew.

create table resync_kept (
    resync_id bigint not null references resync on delete cascade,
    id        text not null,
    primary key (resync_id, id)
);

-- So many rows a person allowed a held sweep to delete; more than that, and it asks again.
alter table resync add column rows_approved bigint;
