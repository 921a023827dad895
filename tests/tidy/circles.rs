//! No circle between files: what a file names (by `use`, or in a path) does not name it back,
//! however many files are on the way, its parent and children included.

use std::collections::{BTreeMap, BTreeSet};

use super::sources;

/// A file, as the path of its module below `src`.
type File = Vec<String>;

#[test]
fn no_file_names_what_names_it() {
    let files = sources("src").into_iter().filter(|(path, _)| {
        !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests")
    });
    let modules: BTreeMap<File, Module> =
        files.map(|(path, text)| (file(&path.with_extension("")), Module::read(&text))).collect();
    assert!(modules.len() > 100, "only {} files were found", modules.len());
    let circle = circle(&modules);
    assert!(circle.is_empty(), "a circle: {}", circle.join(" → "));
}

fn file(path: &std::path::Path) -> File {
    let parts = path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into());
    let mut parts: File = parts.collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// What a file names: paths, and what it hands on under a name of its own (`pub use`).
#[derive(Debug, Default)]
struct Module {
    named: Vec<Vec<String>>,
    handed_on: BTreeMap<String, Vec<String>>,
}

impl Module {
    fn read(text: &str) -> Self {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = code.split("#[cfg(test)]\npub(super) mod tests {").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n").replace("pub(in crate::", "pub(");
        let mut module = Self::default();
        let mut rest = String::new();
        for statement in code.split_inclusive(';') {
            let Some(begin) = begin_of_use(statement) else {
                rest.push_str(statement);
                continue;
            };
            let (before, tree) = statement.split_at(begin);
            rest.push_str(before);
            let is_handed_on = tree.trim_start().starts_with("pub");
            let tree = tree.split_once("use ").unwrap().1.trim_end_matches(';');
            for path in expand(&[], tree) {
                if is_handed_on && path.len() > 1 {
                    module.handed_on.insert(path.last().unwrap().clone(), path);
                } else {
                    module.named.push(path);
                }
            }
        }
        module.named.extend(paths(&rest));
        module
    }
}

/// Where a statement is one that takes names in, or hands them on.
fn begin_of_use(statement: &str) -> Option<usize> {
    let lines = statement.match_indices('\n').map(|(at, _)| at + 1).chain([0]);
    let mut lines: Vec<usize> = lines.collect();
    lines.sort_unstable();
    lines.into_iter().rev().find(|at| {
        let line = statement[*at..].trim_start();
        let after = line.strip_prefix("pub(").and_then(|rest| rest.split_once(") "));
        let line = after.map_or(line, |(_, rest)| rest);
        line.strip_prefix("pub ").unwrap_or(line).starts_with("use ")
    })
}

/// The paths of a `use` tree.
fn expand(prefix: &[String], tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(group) = tree.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        if let Some((name, rest)) = tree.split_once("::").filter(|(name, _)| !name.contains('{')) {
            return expand(&[prefix, &[name.trim().to_owned()]].concat(), rest);
        }
        let name = tree.split(" as ").next().unwrap().trim();
        return vec![[prefix, &[name.to_owned()]].concat()];
    };
    let mut depth = 0;
    let parts = group.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).flat_map(|part| expand(prefix, part)).collect()
}

/// The paths in code, from whatever they begin with.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_path(c)).filter(|word| word.contains("::"));
    words.map(|word| word.split("::").map(str::to_owned).collect()).collect()
}

/// The file in which a path ends, if it is one of ours.
fn resolve(modules: &BTreeMap<File, Module>, from: &File, path: &[String]) -> Option<File> {
    let mut at = from.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &path[1..]),
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        child => {
            let is_child = modules.contains_key(&[from.as_slice(), &[child.to_owned()]].concat());
            let is_handed_on = modules.get(from)?.handed_on.contains_key(child);
            if !is_child && !is_handed_on {
                return None;
            }
        }
    }
    while let Some(next) = rest.first() {
        let below = [at.as_slice(), std::slice::from_ref(next)].concat();
        if modules.contains_key(&below) {
            (at, rest) = (below, &rest[1..]);
        } else if let Some(path) = modules.get(&at).and_then(|module| module.handed_on.get(next)) {
            return resolve(modules, &at, path).filter(|found| *found != at);
        } else {
            break;
        }
    }
    modules.contains_key(&at).then_some(at)
}

/// The files of one circle; none if there is none.
fn circle(modules: &BTreeMap<File, Module>) -> Vec<String> {
    let named = |from: &File| -> BTreeSet<File> {
        let named = modules[from].named.iter().filter_map(|path| resolve(modules, from, path));
        named.filter(|to| to != from).collect()
    };
    let edges: BTreeMap<&File, BTreeSet<File>> =
        modules.keys().map(|from| (from, named(from))).collect();
    // Whoever names nobody that is left is in no circle.
    let mut left: BTreeSet<&File> = modules.keys().collect();
    loop {
        let ends: Vec<&File> = left
            .iter()
            .copied()
            .filter(|from| !edges[from].iter().any(|to| left.contains(to)))
            .collect();
        if ends.is_empty() {
            break;
        }
        for end in ends {
            left.remove(end);
        }
    }
    let mut walked: Vec<&File> = Vec::new();
    let mut next = left.first().copied();
    while let Some(at) = next {
        if let Some(begin) = walked.iter().position(|file| *file == at) {
            return walked[begin..].iter().chain([&at]).map(|file| file.join("/")).collect();
        }
        walked.push(at);
        next = left.iter().copied().find(|to| edges[at].contains(*to));
    }
    Vec::new()
}

#[test]
fn a_circle_is_found_through_what_is_handed_on_and_through_paths() {
    let module = |path: &str, text: &str| {
        (path.split('/').map(str::to_owned).collect::<File>(), Module::read(text))
    };
    let modules = |below: &str| -> BTreeMap<File, Module> {
        BTreeMap::from([
            module("a", "mod one;\nmod two;\n\npub use two::Two;\n"),
            module("a/one", "\nuse super::{Two, three::{Three, Four}};\n"),
            module("a/two", below),
        ])
    };
    let is_circle = |below: &str| circle(&modules(below)).len();
    assert_eq!(is_circle("\nuse std::fmt::Write;\nuse crate::b::One;\n"), 0);
    assert_eq!(is_circle("\nuse crate::a::one::One;\n"), 3);
    assert_eq!(is_circle("fn two() {\n    super::one::one();\n}\n"), 3);
    assert_eq!(is_circle("// super::one::one\n#[cfg(test)]\nmod tests {\nuse super::one;\n}"), 0);
}
