-- What is kept of a request that cannot be obeyed at once, and what came of it; where a process runs.

alter table command
    add column attempts    integer not null default 0,          -- counted before each try, so that one that ends the
                                                                 -- process is counted, too
    add column next_try_at timestamptz not null default now(),
    add column outcome     text check (outcome in ('done', 'refused', 'failed'));

update command set outcome = case when result like 'refused%' then 'refused' else 'done' end
    where done_at is not null;

alter table process
    add column place text;                                       -- host and process namespace: a number of a process
                                                                 -- can be looked up only where it was given
