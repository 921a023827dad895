//! Layers, secrets from files, unknown keys, every error at once.

use std::path::{Path, PathBuf};

use super::*;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("tidemark-settings-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("config")).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, file: Option<&Path>, variables: &[(&str, &str)]) -> Result<Settings, Problems> {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::load(&Origin {
            directory: self.0.clone(),
            file: file.map(Path::to_owned),
            variables,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn problems(result: Result<Settings, Problems>) -> Vec<String> {
    result
        .unwrap_err()
        .0
        .iter()
        .map(|p| format!("{} ({}): {}", p.key, p.layer, p.message))
        .collect()
}

#[test]
fn the_defaults_stand_alone_and_follow_both_collections_with_every_field() {
    let settings = Place::new("defaults").load(None, &[]).unwrap();
    let names: Vec<_> = settings
        .streams
        .iter()
        .map(|s| (s.name.as_str(), s.collection.as_str(), s.columns.len()))
        .collect();
    assert_eq!(names, [("doctor", "doctorsForDB", 12), ("recommendation", "recommendation", 12)]);
    assert_eq!(settings.batch.bytes_max, 8 << 20);
    assert_eq!(settings.lease.duration, Duration::from_secs(15));
    assert_eq!(settings.source.history_retention, Some(Duration::from_secs(10_800)));
}

#[test]
fn later_layers_win_and_the_environment_names_its_file() {
    let place = Place::new("layers");
    place.file(
        "config/production.toml",
        "service = \"from-environment-file\"\nbatch.events_max = 1\nlease.duration = \"4s\"",
    );
    let given = place.file(
        "given.toml",
        "environment = \"production\"\nbatch.events_max = 2\nbatch.linger = \"1ms\"",
    );
    let settings = place
        .load(Some(&given), &[("TIDEMARK__BATCH__EVENTS_MAX", "3"), ("PATH", "ignored")])
        .unwrap();
    assert_eq!(settings.service, "from-environment-file");
    assert_eq!(settings.lease.duration, Duration::from_secs(4));
    assert_eq!(settings.batch.linger, Duration::from_millis(1));
    assert_eq!(settings.batch.events_max, 3);
}

#[test]
fn every_error_is_told_at_once_with_its_key_and_layer() {
    let place = Place::new("errors");
    let given = place.file(
        "bad.toml",
        "[batch]\nevents_maxx = 1\nbytes_max = \"many\"\n[lease]\nduration = \
         \"soon\"\n[source]\nuri = \"http://user:hunter2@x\"\n[[stream]]\nname = \"a \
         b\"\ncollection = \"c\"\ntable = \"t\"\npost_image = \"always\"\nlens = \
         1\n[[stream.column]]\nname = \"doc\"\nfield = \"f\"\ntype = \"varchar\"\nfeild = \"x\"\n",
    );
    let told = problems(place.load(
        Some(&given),
        &[("TIDEMARK__STATUS__LISTEN", "nowhere"), ("TIDEMARK__RESYNC__AUTOMATC", "true")],
    ));
    let text = told.join("\n");
    let layer = given.display().to_string();
    for expected in [
        format!("batch.events_maxx ({layer}): is not a key; did you mean batch.events_max?"),
        format!("batch.bytes_max ({layer}): must be a size"),
        format!("lease.duration ({layer}): must be a duration"),
        format!("source.uri ({layer}): must begin with mongodb://"),
        "status.listen (environment variable TIDEMARK__STATUS__LISTEN): must be an \
         address"
            .to_owned(),
        "resync.automatc (environment variable TIDEMARK__RESYNC__AUTOMATC): is not a key; did you \
         mean resync.automatic?"
            .to_owned(),
        "[0].name must be letters".to_owned(),
        "[0].post_image must be one of".to_owned(),
        "[0].lens is not a key".to_owned(),
        "column[0].type must be one of".to_owned(),
        "column[0].name \"doc\" is used twice or is one of".to_owned(),
        "column[0].feild is not a key; did you mean field?".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected}\nnot in\n{text}");
    }
    assert!(!text.contains("hunter2"), "a secret is never shown");
}

/// One stream with these keys, and one column with those.
fn hiding(stream: &str, column: &str) -> String {
    format!(
        "[[stream]]\nname = \"p\"\ncollection = \"p\"\ntable = \"p\"\n{stream}\n[[stream.column]]\n\
         name = \"n\"\nfield = \"a.b\"\n{column}\n"
    )
}

#[test]
fn what_is_hidden_is_read_judged_and_told_apart_by_its_key() {
    let place = Place::new("hiding");
    let key = |text: &str| place.file("key", text).display().to_string();
    let with = |stream: &str, column: &str, key: &str| {
        let given = place.file("given.toml", &hiding(stream, column));
        place.load(Some(&given), &[("TIDEMARK__RECORD__MASK_KEY_FILE", key)])
    };
    let (exclude, text) = ("exclude = [\"x\", \"a.c\"]", "type = \"text\"\nmask = \"hash\"");
    let key_file = key("sixteen bytes, or more\n");
    let one = with(exclude, text, &key_file).unwrap();
    assert!(!one.streams[0].redaction.is_none() && one.streams[0].columns[0].mask.is_some());
    assert!(!format!("{one:?}").contains("sixteen bytes"), "the key shows itself nowhere");
    assert!(one.say_the_same(&with(exclude, text, &key_file).unwrap()));
    key("another of sixteen bytes");
    let other = with(exclude, text, &key_file).unwrap();
    assert!(!one.say_the_same(&other), "what the key's file says is part of the configuration");
    let summer = with("", "type = \"date\"\nzone = \"Europe/London\"", &key_file).unwrap();
    assert!(summer.streams[0].redaction.is_none() && summer.streams[0].columns[0].zone.is_some());
    for (stream, column, says) in [
        ("", "type = \"date\"\nzone = \"Europe/Londn\"", "did you mean \"Europe/London\"?"),
        ("", "type = \"text\"\nzone = \"UTC\"", ".zone goes with type = \"date\" alone"),
        ("", "type = \"text\"\nmask = \"star\"", ".mask must be \"null\", \"hash\" or"),
        ("", "type = \"integer\"\nmask = \"hash\"", "must be text, text[] or jsonb"),
        ("exclude = \"x\"", "type = \"text\"", "[p].exclude must be a list of field paths"),
        ("include = [\"a..b\"]", "type = \"text\"", "[p].include \"a..b\" has an empty part"),
        ("exclude = [\"a\"]", "type = \"text\"", "[p].exclude leaves out \"a\", but column \"n\""),
        ("excldue = [\"a\"]", "type = \"text\"", "did you mean exclude?"),
    ] {
        let told = problems(with(stream, column, &key_file)).join("\n");
        assert!(told.contains(says), "{told}");
    }
    key("too short");
    let told = problems(with("", text, &key_file)).join("\n");
    assert!(told.contains("record.mask_key") && told.contains("16 bytes"), "{told}");
    let given = place.file("given.toml", &hiding("", text));
    let told = problems(place.load(Some(&given), &[])).join("\n");
    assert!(told.contains("which needs record.mask_key"), "{told}");
}

#[test]
fn a_secret_comes_from_its_key_or_from_a_file_and_never_from_both() {
    let place = Place::new("secrets");
    let secret = place.file("uri", "mongodb://user:hunter2@db/\n");
    let path = secret.display().to_string();
    let settings = place.load(None, &[("TIDEMARK__SOURCE__URI_FILE", &path)]).unwrap();
    assert_eq!(settings.source.uri.expose(), "mongodb://user:hunter2@db/");
    assert!(!settings.print().contains("hunter2"));
    assert!(!format!("{settings:?}").contains("hunter2"));
    let both = [
        ("TIDEMARK__SOURCE__URI_FILE", path.as_str()),
        ("TIDEMARK__SOURCE__URI", "mongodb://other/"),
    ];
    assert!(problems(place.load(None, &both)).join("").contains("source.uri is given too"));
    let empty = place.file("token", "\n").display().to_string();
    let told = problems(place.load(None, &[("TIDEMARK__STATUS__TOKEN_FILE", &empty)])).join("");
    assert!(told.contains("status.token_file") && told.contains("a file that is empty"), "{told}");
    let missing = place.load(None, &[("TIDEMARK__ALERT__SENTRY__DSN_FILE", "/nowhere")]);
    assert!(problems(missing)[0].starts_with("alert.sentry.dsn_file (environment variable"));
}

#[test]
fn what_is_printed_is_toml_with_layers_and_stars() {
    let place = Place::new("print");
    let settings = place.load(None, &[("TIDEMARK__SERVICE", "mark")]).unwrap();
    let printed = settings.print();
    assert!(printed.contains("service = \"mark\""), "{printed}");
    assert!(printed.contains("# environment variable TIDEMARK__SERVICE"));
    assert!(printed.contains("uri = \"***\""));
    assert!(printed.contains("bot_token = \"\""));
}

#[test]
fn a_file_that_is_not_toml_is_named_and_its_lines_are_not_quoted() {
    let place = Place::new("toml");
    let given = place.file("broken.toml", "[source]\nuri = \"mongodb://user:hunter2@x\noops");
    let told = problems(place.load(Some(&given), &[])).join("\n");
    assert!(told.contains("broken.toml") && told.contains("is not valid TOML"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let absent = problems(place.load(Some(Path::new("/no/such/file.toml")), &[]));
    assert!(absent[0].contains("/no/such/file.toml"), "{absent:?}");
}

#[test]
fn a_dsn_that_is_none_is_an_error_that_does_not_repeat_it() {
    let home = Place::new("dsn");
    let told = problems(
        home.load(None, &[("TIDEMARK__ALERT__SENTRY__DSN", "https://sentry.example.org/s3cret")]),
    );
    assert!(
        told.len() == 1 && told[0].contains("alert.sentry.dsn") && told[0].contains("is not a DSN"),
        "{told:?}"
    );
    assert!(!told[0].contains("s3cret"));
}

/// `[[stream]]`s, each of (name, what else stands in it).
fn streams(each: &[(&str, &str)]) -> String {
    let table = |(name, more): &(&str, &str)| {
        format!("[[stream]]\nname = \"{name}\"\ncollection = \"c_{name}\"\n{more}\n")
    };
    each.iter().map(table).collect()
}

#[test]
fn what_is_kept_is_told_and_a_history_has_a_name_of_its_own() {
    let place = Place::new("keeping");
    let long = "x".repeat(56);
    let given = place.file(
        "keeping.toml",
        &streams(&[
            ("a", "table = \"a\"\nhistory = true\non_delete = \"mark\""),
            ("b", "table = \"a_history\"\non_delete = \"keep\"\ndoc = false"),
            ("c", &format!("table = \"{long}\"\nhistory = true")),
        ]),
    );
    let told = problems(place.load(Some(&given), &[])).join("\n");
    for expected in [
        "[b].on_delete must be \"delete\" or \"mark\"",
        "[b].doc must be true where no [[stream.column]] is given",
        "[c].table is too long for a history: _history is put at its end, of 63 bytes",
        "table \"a_history\" is used twice in schema \"public\"",
    ] {
        assert!(told.contains(expected), "{expected}\nnot in\n{told}");
    }
}

#[test]
fn streams_are_of_one_group_unless_they_name_another() {
    let place = Place::new("groups");
    let defaults = place.load(None, &[]).unwrap();
    let main = GroupSettings {
        name: MAIN.to_owned(),
        database: "revalidation".to_owned(),
        schema: "public".to_owned(),
        streams: vec![0, 1],
        is_listed: false,
    };
    assert_eq!(defaults.groups, [main]);
    let given = place.file(
        "groups.toml",
        &("[source]\ndatabase = \"here\"\n[[group]]\nname = \"old\"\ndatabase = \"archive\"\n\
           [[group]]\nname = \"main\"\nschema = \"live\"\n"
            .to_owned()
            + &streams(&[
                ("a", "table = \"t\"\ngroup = \"fast\""),
                ("b", "table = \"u\"\ngroup = \"old\""),
                ("c", "table = \"t\""),
                ("d", "table = \"v\"\ngroup = \"fast\""),
            ])),
    );
    let settings = place.load(Some(&given), &[("TIDEMARK__TARGET__SCHEMA", "tables")]).unwrap();
    let groups: Vec<_> = settings
        .groups
        .iter()
        .map(|g| (g.name.as_str(), g.database.as_str(), g.schema.as_str(), g.streams.as_slice()))
        .collect();
    let expected: [(&str, &str, &str, &[usize]); 3] = [
        ("fast", "here", "tables", &[0, 3]),
        ("old", "archive", "tables", &[1]),
        ("main", "here", "live", &[2]),
    ];
    assert_eq!(groups, expected);
    let ways: Vec<String> = settings
        .streams
        .iter()
        .map(|s| format!("{} {}", settings.namespace_of(s), settings.table_of(s)))
        .collect();
    let expected =
        ["here.c_a tables.t", "archive.c_b tables.u", "here.c_c live.t", "here.c_d tables.v"];
    assert_eq!(ways, expected);
}

#[test]
fn what_is_wrong_with_groups_is_told_at_once() {
    let place = Place::new("no-groups");
    let given = place.file(
        "groups.toml",
        &("[[group]]\nname = \"old\"\nshema = \"x\"\n[[group]]\nname = \"old\"\n\
           [[group]]\nname = \"gruop\"\ndatabase = \"\"\n[[group]]\nschema = 7\n"
            .to_owned()
            + &streams(&[
                ("a", "table = \"t\"\ngroup = \"a b\""),
                ("b", "table = \"t\"\ngroup = \"old\""),
                ("old", "table = \"u\""),
                ("alone", "table = \"v\"\ngroup = \"alone\""),
            ])),
    );
    let told = problems(place.load(Some(&given), &[]));
    let layer = given.display();
    let expected = [
        "[a].group must be letters",
        "[0].shema is not a key; did you mean schema?",
        "[1].name \"old\" is used twice",
        "[2].database must be given",
        "[3].name must be given",
        "[3].schema must be text in quotes",
        "no [[stream]] is of group \"gruop\": correct the name",
        "\"old\" is the name of a stream and of a group of others",
        "table \"t\" is used twice in schema \"public\"",
    ];
    for expected in expected {
        let is_told =
            |line: &String| line.contains(expected) && line.contains(&format!(" ({layer}): "));
        assert!(told.iter().any(is_told), "{expected}\nnot in\n{}", told.join("\n"));
    }
    let alone = told.iter().any(|line| line.contains("\"alone\""));
    assert!(!alone, "a group may be named as its only stream: {told:?}");
    let list = place.file("list.toml", "group = \"main\"\n");
    let told = problems(place.load(Some(&list), &[])).join("\n");
    assert!(told.contains("must be a list of tables: [[group]]"), "{told}");
}

#[test]
fn what_all_groups_share_has_limits_that_fit_together() {
    let place = Place::new("shared");
    let settings = place.load(None, &[]).unwrap();
    assert_eq!((settings.resync.concurrent, settings.target.connections_max), (2, 12));
    assert_eq!(settings.batch.bytes_total_max, 64 << 20);
    for (key, value, told) in [
        ("RESYNC__CONCURRENT", "0", "resync.concurrent"),
        ("TARGET__CONNECTIONS_MAX", "4", "target.connections_max"),
        ("BATCH__BYTES_TOTAL_MAX", "7MiB", "batch.bytes_total_max"),
        ("BATCH__BYTES_MAX", "65MiB", "batch.bytes_total_max"),
    ] {
        let variable = format!("TIDEMARK__{key}");
        let problems = problems(place.load(None, &[(&variable, value)]));
        assert!(problems.len() == 1 && problems[0].starts_with(told), "{problems:?}");
    }
    let printed = settings.print();
    for line in ["connections_max = 12 ", "bytes_total_max = \"64MiB\" ", "concurrent = 2 "] {
        assert!(printed.contains(&format!("\n{line}")), "{line} not in\n{printed}");
    }
}

#[test]
fn a_thousand_streams_are_read_in_an_instant() {
    use std::fmt::Write;
    let place = Place::new("thousand");
    let mut text = "[target]\nconnections_max = 210\n".to_owned();
    for n in 0..1000 {
        let group = if n % 5 == 0 { format!("group = \"g{n}\"") } else { String::new() };
        text += &streams(&[(&format!("s{n}"), &format!("table = \"t{n}\"\n{group}"))]);
        for column in 0..12 {
            let _ = writeln!(
                text,
                "[[stream.column]]\nname = \"c{column}\"\nfield = \"f.g{column}\"\ntype = \"text\""
            );
        }
    }
    let given = place.file("thousand.toml", &text);
    let began = std::time::Instant::now();
    let settings = place.load(Some(&given), &[]).unwrap();
    let took = began.elapsed();
    assert_eq!((settings.streams.len(), settings.groups.len()), (1000, 201));
    assert!(settings.groups.iter().map(|group| group.streams.len()).sum::<usize>() == 1000);
    assert!(took < Duration::from_secs(2), "{took:?} of a build that is not optimised");
    println!("1,000 streams of 12 columns read in {took:?}");
}
