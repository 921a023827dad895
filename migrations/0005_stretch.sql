-- What a walk saw and found as it is: stretches of a table, from one id to another, that held its documents and no other
-- row. Their ids are not kept one by one.

alter table resync_seen
    add column lows  text[] not null default '{}',
    add column highs text[] not null default '{}';
