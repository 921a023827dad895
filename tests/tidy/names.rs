//! A name is an address: who looks for one finds one place.

use std::collections::BTreeMap;

use super::sources;

/// Words of the contract, which name what several modules do about the same thing.
const NOUNS: &[&str] = &[
    "alert",
    "batch",
    "checkpoint",
    "command",
    "compare",
    "dead_letter",
    "drift",
    "explain",
    "group",
    "heartbeat",
    "history_window",
    "incident",
    "init",
    "mute",
    "pause",
    "purge",
    "reload",
    "wait",
    "resync",
    "resync_part",
    "retention",
    "source",
    "status",
    "stream",
    "target",
    "views",
];

#[test]
fn a_files_stem_stands_twice_only_for_a_noun_of_the_contract() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, _) in sources("src") {
        let stem = path.file_stem().unwrap().to_string_lossy();
        let folder = path.parent().unwrap().file_name().unwrap().to_string_lossy();
        let stem = if stem == "mod" { folder } else { stem };
        if stem != "tests" {
            places.entry(stem.into_owned()).or_default().push(path.display().to_string());
        }
    }
    for (stem, files) in places {
        assert!(files.len() == 1 || NOUNS.contains(&&*stem), "{stem} is the stem of {files:?}");
    }
}

#[test]
fn no_public_type_stands_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources("src") {
        for name in public_types(&text) {
            places.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    assert!(places.len() > 150, "only {} types were found", places.len());
    for (name, files) in places {
        assert!(files.len() == 1, "{name} is a type in {files:?}");
    }
}

fn public_types(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let heads = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
    let named = code.lines().filter_map(|line| {
        heads.iter().find_map(|head| line.strip_prefix(head)).map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            &rest[..end]
        })
    });
    named.collect()
}
