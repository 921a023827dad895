-- What a stream's rows were made by: where the configuration says otherwise by now, they are made anew.

alter table stream
    add column mapping jsonb;                          -- null: an older release made them
