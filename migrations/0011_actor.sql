-- Who asked, as Postgres itself knows it, beside the name that was claimed. Rows from before keep
-- null: of them it is not known.

alter table command
    add column db_user    text,                                  -- session_user of who asked
    add column db_address inet;                                  -- null: through a socket
alter table command
    alter column db_user    set default session_user,
    alter column db_address set default inet_client_addr();

alter table incident
    add column acked_user    text,
    add column acked_address inet;

create function note_ack() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    new.acked_user := session_user;
    new.acked_address := inet_client_addr();
    return new;
end $$;

create trigger note_ack before update of acked_by, acked_until on incident
    for each row execute function note_ack();
