-- What a letter was made under: the fingerprint of what its stream hid. Null: of nothing hidden, or by an older release. A
-- stream that hides something else by now rewrites its letters at its next start.

alter table dead_letter
    add column redaction bytea;
