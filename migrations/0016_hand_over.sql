-- Where a stream was when its group let it go: another group that takes it goes on from there.

alter table stream_position
    add column "group"    text,                        -- that let it go; null: as left by an older release
    add column begun_time bigint;                      -- that group's: see checkpoint

alter table lease
    add column wanted_at    timestamptz,               -- when a process that leads fewer groups last asked for it
    add column hurried_at   timestamptz;               -- when somebody last asked that the position be committed at once
