//! The house rules that a test can hold: who may import whom, lengths, and that the docs name what
//! the code has.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a failed expectation ends the test"
)]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/migrations.rs"]
mod migrations;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/tables.rs"]
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with the ones it may import; `error` and `model` are free to all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("model", &[]),
    ("failpoint", &[]),
    ("crypto", &[]),
    ("http_client", &["crypto"]),
    ("service_manager", &[]),
    ("spans", &[]),
    ("settings", &[]),
    ("retry", &["settings"]),
    ("postgres", &["settings", "crypto"]),
    ("state", &["postgres"]),
    ("source", &["settings"]),
    ("batch", &["source"]),
    ("apply", &["settings", "failpoint", "spans", "postgres", "state", "source", "batch"]),
    ("resync", &["settings", "source", "apply"]),
    ("status", &[]),
    (
        "alert",
        &["settings", "failpoint", "http_client", "postgres", "state", "status", "telemetry"],
    ),
    (
        "pipeline",
        &[
            "settings",
            "failpoint",
            "spans",
            "retry",
            "postgres",
            "state",
            "source",
            "batch",
            "apply",
            "resync",
            "status",
        ],
    ),
    (
        "ops",
        &[
            "settings",
            "http_client",
            "retry",
            "postgres",
            "state",
            "source",
            "batch",
            "apply",
            "resync",
            "status",
            "alert",
        ],
    ),
    (
        "supervisor",
        &[
            "settings",
            "retry",
            "postgres",
            "state",
            "source",
            "batch",
            "apply",
            "status",
            "pipeline",
            "alert",
            "ops",
            "service_manager",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "settings",
            "postgres",
            "state",
            "status",
            "alert",
            "ops",
            "supervisor",
            "service_manager",
            "telemetry",
        ],
    ),
    ("telemetry", &["settings", "http_client", "spans"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    assert!(!found.is_empty(), "no source files under {folder}");
    found
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().unwrap() != "target" {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
}

fn everything() -> Vec<(PathBuf, String)> {
    ["src", "tests", "benches", "examples"].into_iter().flat_map(sources).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn imports_run_one_way() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    for (path, text) in sources("src") {
        let second = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
        let module = second.trim_end_matches(".rs");
        let may =
            allowed.get(module).unwrap_or_else(|| panic!("{module} has no line in MAY_IMPORT"));
        for (number, line) in text.lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let name: String =
                    part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let fine = name.is_empty()
                    || name == module
                    || ["error", "model"].contains(&name.as_str())
                    || may.contains(&name.as_str());
                assert!(fine, "{}:{}: {module} may not import {name}", path.display(), number + 1);
            }
        }
        if module != "source" {
            assert!(
                !text.contains("mongodb::"),
                "{}: only source imports the MongoDB driver",
                path.display()
            );
        }
    }
}

#[test]
fn files_and_functions_are_short() {
    for (path, text) in everything() {
        let lines = text.lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{}: {lines} lines, at most {FILE_LINES_MAX}",
            path.display()
        );
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            assert!(
                columns <= COLUMNS_MAX,
                "{}:{}: {columns} columns, at most {COLUMNS_MAX}",
                path.display(),
                number + 1
            );
        }
        let mut begun: Option<(usize, usize)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            let heads = [
                "fn ",
                "pub fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "const fn ",
                "pub const fn ",
            ];
            if begun.is_none()
                && heads.iter().any(|head| code.starts_with(head))
                && !code.ends_with(';')
                && !code.ends_with('}')
            {
                begun = Some((number, indent));
            } else if let Some((start, at)) = begun
                && indent == at
                && code.starts_with('}')
            {
                let length = number - start + 1;
                assert!(
                    length <= FUNCTION_LINES_MAX,
                    "{}:{}: {length} lines, at most {FUNCTION_LINES_MAX}",
                    path.display(),
                    start + 1
                );
                begun = None;
            }
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in sources("src") {
        let tests = path.ends_with("tests.rs");
        assert!(tests || text.starts_with("//!"), "{} opens without //!", path.display());
    }
}

#[test]
fn every_code_has_its_section_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let sections: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let codes: Vec<&str> = tidemark::error::Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(sections, codes, "sections and codes, in one order");
}

#[test]
fn the_runbooks_table_says_what_the_rules_do() {
    use tidemark::error::rules::{PendingFor, RULES, Scope};
    let runbook = read("docs/runbook.md");
    for rule in RULES {
        let opens = if rule.pending_for == PendingFor::AtOnce { "at once" } else { "escalated" };
        let of = match rule.scope {
            Scope::Stream => "stream",
            Scope::End => "end",
            Scope::Process => "process",
        };
        let deeper: Vec<String> =
            rule.inhibited_by.iter().map(|code| format!("`{code}`")).collect();
        let deeper = if deeper.is_empty() { "–".to_owned() } else { deeper.join(", ") };
        let row =
            format!("| `{}` | {} | {opens} | {of} | {deeper} |", rule.code, rule.severity.name());
        assert!(runbook.contains(&row), "docs/runbook.md lacks the row\n{row}");
    }
}

/// What a daemon of one stream serves.
fn metrics() -> String {
    let [name, source, table] = ["doctor", "db.c", "public.t"].map(str::to_owned);
    let streams = vec![tidemark::status::StreamNames { name, source, table }];
    let main = tidemark::status::GroupNames { name: "main".to_owned(), streams };
    tidemark::status::Board::new("s", "e", &[main], Vec::new()).metrics_text()
}

#[test]
fn every_metric_and_command_stands_in_the_reference() {
    let reference = read("docs/reference.md");
    let text = metrics();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE tidemark_"))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let stands =
            [format!("`{name}`"), format!("`{name}{{")].iter().any(|form| reference.contains(form));
        assert!(stands, "metric {name} is not in docs/reference.md");
    }
    let commands = [
        "run",
        "init",
        "check",
        "migrate",
        "status",
        "resync",
        "compare",
        "explain",
        "views",
        "checkpoint",
        "dead-letter",
        "purge",
        "pause",
        "resume",
        "log",
        "source",
        "incident",
        "alert",
        "healthcheck",
        "schema",
    ];
    for command in commands {
        assert!(
            reference.contains(&format!("| `{command}")),
            "command {command} is not in docs/reference.md"
        );
    }
}

/// Dashboards and alert rules name series by text: each must be one that is served.
#[test]
fn every_metric_a_dashboard_or_rule_names_is_served() {
    let text = metrics();
    let served = |name: &str| {
        text.lines().any(|line| {
            line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
        })
    };
    for file in [
        "deploy/grafana/tidemark.json",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts.test.yml",
    ] {
        let content = read(file);
        let mut names: Vec<String> = content
            .split("tidemark_")
            .skip(1)
            .map(|rest| {
                format!(
                    "tidemark_{}",
                    rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap()
                )
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() > 7, "{file} names {names:?}");
        for name in names {
            assert!(served(&name), "{file} names {name}, which is not served");
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let architecture = read("docs/architecture.md");
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let table = architecture.split("## Dependencies").nth(1).unwrap();
    for name in section
        .lines()
        .filter_map(|line| line.split(" = ").next())
        .filter(|name| !name.trim().is_empty())
    {
        let listed = table.lines().any(|row| {
            row.split('|')
                .nth(1)
                .is_some_and(|cell| cell.split(',').any(|part| part.trim() == name))
        });
        assert!(listed, "{name} has no reason in docs/architecture.md");
    }
}

#[test]
fn the_readme_names_files_that_are_there() {
    let readme = read("README.md");
    for link in readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.starts_with("http"))
    {
        assert!(root().join(link).exists(), "README links to {link}, which is not there");
    }
}
