-- How a dead letter was resolved.

alter table dead_letter add column resolution text check (resolution in ('retried', 'discarded'));
