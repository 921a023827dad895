-- Where processes have died: no document may make a crash loop.

create table attempt (
    stream      text not null,
    road        text not null check (road in ('live', 'walk')),
    place       bigint not null,                       -- hash of the position, or of the walk's place
    run         uuid,                                  -- of the pipeline at work there; null: it ended in good order
    deaths      integer not null default 0,            -- pipelines that began there and did not
    hand        bigint,                                -- hash of the one thing, or of the first of some, that was taken
                                                       -- in hand there
    hand_size   integer not null default 0,            -- how many things
    hand_deaths integer not null default 0,            -- pipelines that did not end in good order with just it in hand
    primary key (stream, road)
);
