-- What a stream's position speaks for. A position is only a time: nothing in it tells another cluster, another collection
-- of the same name, or another table from the one it was made with.

create table stream (
    stream          text primary key,
    service         text not null,                     -- whose stream it is: another service or environment gets no lease
    environment     text not null,
    cluster         text,                              -- the replica set's id, hex; null: the source does not tell it
    collection_uuid uuid,                              -- null: there was no collection, or the source does not tell it
    begun_time      bigint,                            -- cluster time the position began at: need be no entry of the oplog
    table_schema    text not null,
    table_name      text not null,
    table_oid       bigint not null,
    witness_id      text,                              -- a row that tidemark wrote, as new as any: null while there is none
    witness_time    bigint                             -- its _cluster_time
);

alter table resync
    add column collection_uuid uuid;                   -- the collection it walks: nothing is concluded from another
alter table checkpoint_history
    add column cluster         text,                   -- what the retired position spoke for
    add column collection_uuid uuid;
