-- What is over is forgotten by its age: found without reading what is not.

create index dead_letter_resolved on dead_letter (resolved_at) where resolved_at is not null;
create index incident_resolved on incident (resolved_at) where resolved_at is not null;
create index checkpoint_history_retired on checkpoint_history (retired_at);
create index command_done on command (done_at) where done_at is not null;
