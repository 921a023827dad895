-- Streams that a person told to stop for a while. One that is paused is parked, too (parked_code), so that an older
-- release leaves it out as well, and repairs it once it follows it.

alter table stream
    add column paused_until  timestamptz,              -- null: not paused, or what was missed meanwhile is being repaired
    add column paused_by     text,
    add column paused_reason text;
