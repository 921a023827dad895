-- Since when what happened at the source is not in a stream's table: of which time it was when its group went on without
-- it, or lost its place. It stands until a walk has made up for that, whatever becomes of the walks before.

alter table stream
    add column blind_from timestamptz;
