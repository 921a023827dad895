-- The floor: a release works on these tables if it knows this format, whatever has been added since.
-- A migration that takes something away raises it.

create table release (
    single     boolean primary key default true check (single),
    format_min integer not null
);

insert into release (format_min) values (1);
