-- Whose a request and a process are: two services, or two environments of one, may share these tables. Null: written by
-- an earlier release, and nothing tells.

alter table process add column environment text;

alter table command
    add column service     text,
    add column environment text;

update command as c set service = s.service, environment = s.environment from stream as s where s.stream = c.stream;
update command as c set service = i.service, environment = i.environment from incident as i
    where c.verb = 'incident ack' and i.id = (c.arguments ->> 'incident')::bigint;
