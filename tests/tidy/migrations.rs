//! Migrations only expand.

use std::fs;
use std::path::PathBuf;

use super::root;

/// An older release runs on what a newer one has migrated, unless that raises the floor
/// (`release.format_min`): a migration takes nothing away, and asks for nothing that an older
/// release does not give.
#[test]
fn migrations_only_expand() {
    // From before there was a release, or a floor.
    const BEFORE: [&str; 2] = ["0002_resync.sql", "0008_command.sql"];
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("migrations")).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut checked = 0;
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let offences = contractions(&text);
        let raises = text.contains("update release set format_min");
        assert!(
            offences.is_empty() || raises || BEFORE.contains(&&*name),
            "{name} takes away: {offences:#?}"
        );
        checked += 1;
    }
    assert!(checked >= 12, "only {checked} migrations were found");
}

/// The parts of a migration that an older release could not live with.
fn contractions(migration: &str) -> Vec<String> {
    let bare: Vec<&str> = migration.lines().map(|line| line.split("--").next().unwrap()).collect();
    let text = bare.join(" ").split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let made: Vec<&str> =
        text.split("create table ").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    let mut offences = Vec::new();
    for statement in text.split(';').map(str::trim) {
        let words = [
            "drop ",
            "rename ",
            "truncate ",
            "add constraint ",
            " type ",
            "set not null",
            "delete from ",
        ];
        let of_its_own =
            |after: &str| made.iter().any(|table| statement.contains(&format!("{after} {table} ")));
        let takes =
            words.iter().any(|word| statement.contains(word)) && !statement.starts_with("create ");
        let narrows = statement.starts_with("create unique index") && !of_its_own("on");
        let demands = statement.starts_with("alter table ")
            && statement.split(',').any(|part| {
                part.contains("add column ")
                    && part.contains("not null")
                    && !part.contains("default")
            });
        if (takes || narrows || demands) && !of_its_own("alter table") {
            offences.push(statement.to_owned());
        }
    }
    offences
}

#[test]
fn what_an_older_release_could_not_live_with_is_told_from_what_it_can() {
    for expands in [
        "alter table a add column b text, add column c integer not null default 0",
        "create table a (b text not null unique); create unique index c on a (b)",
        "alter table a alter column b set default now() -- drop it later",
    ] {
        assert_eq!(contractions(expands), [""; 0], "{expands}");
    }
    for contracts in [
        "alter table a drop column b",
        "alter table a rename column b to c",
        "alter table a alter column b type bigint",
        "alter table a add column b text not null",
        "alter table a add constraint c check (b > 0)",
        "create unique index c on a (b)",
        "drop index c",
    ] {
        assert_eq!(contractions(contracts).len(), 1, "{contracts}");
    }
}
