-- What a table lacked for a while (a column, the table of an array) was made again, empty: its walk compares all rows by
-- their contents, because their hashes say what was written, not what is there.

alter table resync
    add column by_content boolean not null default false;
