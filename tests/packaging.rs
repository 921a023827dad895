//! What is shipped beside the program holds together: the book, the Debian package, the unit, the
//! chart. Their own linters look at each in CI (.github/workflows/ci.yml, "packaging").

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a failed expectation ends the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn pages(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let path = path.strip_prefix(root().join("docs")).unwrap();
            found.insert(path.display().to_string());
        }
    }
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    ends.filter(|link| !link.starts_with("http"))
}

/// A page that the table of contents does not name is found by nobody.
#[test]
fn the_book_has_every_page_and_its_links_lead_somewhere() {
    let mut there = BTreeSet::new();
    pages(&root().join("docs"), &mut there);
    there.remove("SUMMARY.md");
    assert!(there.len() > 15, "{there:?}");
    let summary = read("docs/SUMMARY.md");
    let named: BTreeSet<String> = links(&summary).map(str::to_owned).collect();
    assert_eq!(named, there, "docs/SUMMARY.md names the pages of docs/");
    for page in &there {
        let text = read(&format!("docs/{page}"));
        let folder = root().join("docs").join(page).parent().unwrap().to_owned();
        for link in links(&text) {
            let file = link.split('#').next().unwrap();
            let is_there = file.is_empty() || folder.join(file).is_file();
            // What lies outside of docs/ is not in the book.
            assert!(is_there && !link.starts_with("../"), "docs/{page} links to {link}");
        }
        for included in text.split("{{#include ").skip(1) {
            let file = included.split(['}', ':']).next().unwrap();
            assert!(folder.join(file).is_file(), "docs/{page} includes {file}");
        }
    }
}

/// One version: of the program, of the package, of the chart.
#[test]
fn the_chart_is_of_this_version_and_has_the_same_alert_rules() {
    let version = format!("ersion: {}", env!("CARGO_PKG_VERSION"));
    let chart = read("deploy/helm/tidemark/Chart.yaml");
    let versions: Vec<&str> = chart.lines().filter(|line| line.contains(&version)).collect();
    assert_eq!(versions.len(), 2, "version and appVersion of Chart.yaml are that of Cargo.toml");
    assert_eq!(
        read("deploy/helm/tidemark/files/alerts.yml"),
        read("deploy/prometheus/alerts.yml"),
        "cp deploy/prometheus/alerts.yml deploy/helm/tidemark/files/"
    );
}

/// Every value has its line in the schema, and the other way round, at every depth both know.
#[test]
fn the_charts_values_and_their_schema_name_the_same() {
    let values = &YamlLoader::load_from_str(&read("deploy/helm/tidemark/values.yaml")).unwrap()[0];
    let schema: serde_json::Value =
        serde_json::from_str(&read("deploy/helm/tidemark/values.schema.json")).unwrap();
    let mut compared = 0;
    same_keys("values", values, &schema, &mut compared);
    assert!(compared > 30, "{compared}");
}

fn same_keys(place: &str, values: &Yaml, schema: &serde_json::Value, compared: &mut usize) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let values = values.as_hash().unwrap();
    let of_values: BTreeSet<&str> = values.keys().filter_map(Yaml::as_str).collect();
    // Helm's own, which a chart above this one may set.
    let of_schema = properties.keys().map(String::as_str).filter(|key| *key != "global");
    assert_eq!(of_values, of_schema.collect(), "{place}");
    assert_eq!(schema["additionalProperties"], false, "{place}");
    for (key, value) in values {
        let key = key.as_str().unwrap();
        *compared += 1;
        if properties[key]["additionalProperties"] == false {
            same_keys(&format!("{place}.{key}"), value, &properties[key], compared);
        }
    }
}

/// What is packed must be there, or made by the script that packs.
#[test]
fn the_debian_package_names_files_that_are_there() {
    let manifest = read("Cargo.toml");
    let assets = manifest.split("assets = [\n").nth(1).unwrap().split("\n]").next().unwrap();
    let script = read("deploy/debian/build.sh");
    let mut seen = 0;
    for line in assets.lines() {
        let file = line.split('"').nth(1).unwrap();
        let made = file.strip_prefix("target/debian-parts/");
        let is_there = match made.and_then(|made| made.split(['.', '/']).next()) {
            Some(made) => script.contains(&format!("$parts/{made}")),
            None => file == "target/release/tidemark" || root().join(file).is_file(),
        };
        assert!(is_there, "{file} is packed and not there");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

/// systemd's own judgement: of the whole unit, and of how far it is locked up.
#[test]
fn systemd_takes_the_unit_and_finds_it_locked_up() {
    let unit = read("deploy/systemd/tidemark.service");
    for key in
        ["Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "RestartPreventExitStatus=2 78"]
    {
        assert!(unit.contains(key), "{key}");
    }
    let folder = root().join("target/tmp/systemd");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tidemark.service");
    // It looks for the program.
    let program = std::env::current_exe().unwrap();
    let unit = unit.replace("/usr/bin/tidemark", &program.display().to_string());
    fs::write(&file, unit).unwrap();
    let analyze =
        |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&file).output();
    let verified = analyze(&["verify", "--man=no"]).expect("systemd-analyze, of systemd");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("tidemark.service"), "{said}");
    let score = analyze(&["security", "--offline=yes", "--threshold=20"]).unwrap();
    assert!(score.status.success(), "{}", String::from_utf8_lossy(&score.stdout));
}
