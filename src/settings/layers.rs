//! The layers, flattened: each leaf key with the value that won and the layer it came from.

use std::collections::BTreeMap;
use std::path::Path;

use config::{File, FileFormat, Source, Value, ValueKind};

use super::origin::{Origin, Problem};

/// `config/default.toml`, compiled in.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

pub(super) const DEFAULT_LAYER: &str = "defaults";
const PREFIX: &str = "TIDEMARK__";

#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub value: Value,
    pub layer: String,
}

#[derive(Debug, Default)]
pub(super) struct Layers {
    pub leaves: BTreeMap<String, Leaf>,
    pub problems: Vec<Problem>,
}

impl Layers {
    /// The defaults alone.
    pub fn of_defaults() -> Self {
        let mut layers = Self::default();
        layers.add(DEFAULT_LAYER, &File::from_str(DEFAULTS, FileFormat::Toml));
        layers
    }

    pub fn collect(origin: &Origin) -> Self {
        let mut layers = Self::of_defaults();
        let given = origin.file.as_deref().map(|path| (path, Self::of_file(path)));
        let environment = layers.environment_name(origin, given.as_ref().map(|(_, layer)| layer));
        let beside = origin.directory.join("config").join(format!("{environment}.toml"));
        if beside.is_file() {
            layers.merge(Self::of_file(&beside));
        }
        if let Some((_, layer)) = given {
            layers.merge(layer);
        }
        layers.add_variables(&origin.variables);
        layers
    }

    fn of_file(path: &Path) -> Self {
        let mut layer = Self::default();
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                layer.add(&name, &File::from_str(&text, FileFormat::Toml));
                if !layer.problems.is_empty() {
                    let bones = File::from_str(&bones(&text), FileFormat::Toml);
                    bones
                        .collect()
                        .into_iter()
                        .flatten()
                        .for_each(|(key, value)| layer.flatten(key, value, &name));
                }
            }
            Err(error) => layer.problem(&name, "--config", format!("cannot be read: {error}")),
        }
        layer
    }

    /// The environment decides which file is read, so it is looked up before the layers are merged.
    fn environment_name(&self, origin: &Origin, given: Option<&Self>) -> String {
        let variable = origin
            .variables
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("TIDEMARK__ENVIRONMENT"));
        let leaf =
            |layer: &Self| layer.leaves.get("environment").map(|leaf| leaf.value.to_string());
        variable
            .map(|(_, v)| v.clone())
            .or_else(|| given.and_then(leaf))
            .or_else(|| leaf(self))
            .unwrap_or_default()
    }

    fn add(&mut self, layer: &str, source: &dyn Source) {
        match source.collect() {
            Ok(table) => {
                for (key, value) in table {
                    self.flatten(key, value, layer);
                }
            }
            // The parser quotes the offending line, which may hold a secret: only the place is
            // repeated.
            Err(error) => {
                let text = error.to_string();
                let place =
                    text.lines().find(|l| l.contains("line ")).unwrap_or("TOML parse error");
                self.problem("(file)", layer, format!("is not valid TOML: {}", place.trim()));
            }
        }
    }

    fn flatten(&mut self, key: String, value: Value, layer: &str) {
        if let ValueKind::Table(table) = value.kind {
            for (name, value) in table {
                self.flatten(format!("{key}.{name}"), value, layer);
            }
            return;
        }
        self.leaves.insert(key, Leaf { value, layer: layer.to_owned() });
    }

    fn add_variables(&mut self, variables: &[(String, String)]) {
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let key = path.to_ascii_lowercase().replace("__", ".");
            let value = Value::new(None, ValueKind::String(text.clone()));
            self.leaves.insert(key, Leaf { value, layer: format!("environment variable {name}") });
        }
    }

    fn merge(&mut self, later: Self) {
        self.leaves.extend(later.leaves);
        self.problems.extend(later.problems);
    }

    fn problem(&mut self, key: &str, layer: &str, message: String) {
        self.problems.push(Problem { key: key.to_owned(), layer: layer.to_owned(), message });
    }
}

/// What of a file that is not valid TOML still says where the status is: its headings, and the
/// lines that may name it.
fn bones(text: &str) -> String {
    let is_heading = |line: &str| {
        line.starts_with('[') && line.split('#').next().unwrap_or("").trim_end().ends_with(']')
    };
    let is_kept = |line: &&str| {
        is_heading(line) || line.starts_with("listen") || line.starts_with("status.listen")
    };
    text.lines().map(str::trim).filter(is_kept).collect::<Vec<_>>().join("\n")
}
