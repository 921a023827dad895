//! Typed reading of flattened layers. A key is known because it is read; what was never read is an
//! error.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use config::{Value, ValueKind};
use twox_hash::XxHash3_64;

use super::key_shape::Shape;
use super::layers::{DEFAULT_LAYER, Layers, Leaf};
use super::origin::Problem;
use super::secret::Secret;

pub(super) struct Reader {
    leaves: BTreeMap<String, Leaf>,
    problems: Vec<Problem>,
    /// Keys read so far, in the order of reading, with how to print them.
    known: Vec<(String, String)>,
    /// What each of them may be given.
    shapes: BTreeMap<String, Shape>,
}

impl Reader {
    pub fn new(layers: Layers) -> Self {
        let Layers { leaves, problems } = layers;
        Self { leaves, problems, known: Vec::new(), shapes: BTreeMap::new() }
    }

    /// What each key that was read may be given.
    pub const fn shapes(&self) -> &BTreeMap<String, Shape> {
        &self.shapes
    }

    /// What a key is given.
    pub fn default_of(&self, key: &str) -> Option<&Value> {
        self.leaves.get(key).map(|leaf| &leaf.value)
    }

    /// Notes what a key may be given: what is noted last counts.
    fn note(&mut self, key: &str, shape: Shape) {
        self.shapes.insert(key.to_owned(), shape);
    }

    /// Tells single values from others, secrets included: these show themselves nowhere else.
    pub fn fingerprint(&self) -> u64 {
        let single = self.leaves.iter().filter(|(_, leaf)| {
            !matches!(leaf.value.kind, ValueKind::Array(_) | ValueKind::Table(_))
        });
        let told: Vec<String> =
            single.map(|(key, leaf)| format!("{key}={:?}", leaf.value.to_string())).collect();
        XxHash3_64::oneshot(told.join("\n").as_bytes())
    }

    /// What to print, and everything that is wrong, unknown keys included.
    pub fn finish(mut self) -> (String, Vec<Problem>) {
        let unknown: Vec<String> = self
            .leaves
            .keys()
            .filter(|key| !self.known.iter().any(|(known, _)| known == *key))
            .cloned()
            .collect();
        for key in unknown {
            let message = unknown_key(&key, self.known.iter().map(|(known, _)| known.as_str()));
            self.problem(&key, message);
        }
        (self.print(), self.problems)
    }

    fn print(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        // What is of no section stands before the first.
        let (of_none, of_one): (Vec<_>, Vec<_>) =
            self.known.iter().partition(|(key, _)| !key.contains('.'));
        for (key, shown) in of_none.into_iter().chain(of_one) {
            let Some(leaf) = self.leaves.get(key) else { continue };
            let (head, name) = key.rsplit_once('.').unwrap_or(("", key));
            if head != section {
                let _ = writeln!(out, "\n[{head}]");
                section = head;
            }
            let _ = writeln!(out, "{:<60} # {}", format!("{name} = {shown}"), leaf.layer);
        }
        out
    }

    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        let mut message = message.into();
        let file_key = format!("{key}_file");
        let (key, leaf) = match self.leaves.get(&file_key) {
            // What is wrong stands in the file.
            Some(leaf) => {
                message = format!("what {} holds {message}", leaf.value);
                (file_key.as_str(), Some(leaf))
            }
            None => (key, self.leaves.get(key)),
        };
        let layer = leaf.map_or(DEFAULT_LAYER, |leaf| &leaf.layer).to_owned();
        self.problems.push(Problem { key: key.to_owned(), layer, message });
    }

    pub fn check(&mut self, key: &str, holds: bool, message: &str) {
        if !holds {
            self.problem(key, message);
        }
    }

    fn leaf(&mut self, key: &str) -> Option<Value> {
        let value = self.leaves.get(key).map(|leaf| leaf.value.clone());
        let shown = value.as_ref().map(|v| match &v.kind {
            ValueKind::String(text) => format!("{text:?}"),
            _ => v.to_string(),
        });
        self.known.push((key.to_owned(), shown.unwrap_or_default()));
        if value.is_none() {
            self.problem(key, "is missing");
        }
        value
    }

    pub fn text(&mut self, key: &str) -> String {
        self.note(key, Shape::Text);
        match self.leaf(key).map(|v| v.kind) {
            Some(ValueKind::String(text)) => text,
            None => String::new(),
            Some(_) => {
                self.problem(key, "must be text in quotes");
                String::new()
            }
        }
    }

    /// What the log lets through, as it is read when it is used.
    pub fn log_filter(&mut self, key: &str) -> String {
        let text = self.text(key);
        let is_one = tracing_subscriber::EnvFilter::try_new(&text).is_ok();
        self.check(key, is_one, "is not a filter such as \"info\" or \"info,tidemark=debug\"");
        text
    }

    pub fn word(&mut self, key: &str) -> String {
        let text = self.text(key);
        self.note(key, Shape::Word);
        self.check(key, !text.trim().is_empty(), "must not be empty");
        text
    }

    pub fn identifier(&mut self, key: &str) -> String {
        let text = self.word(key);
        self.note(key, Shape::Name);
        self.check(
            key,
            text.len() <= 63,
            "must be at most 63 bytes long, the limit of a name in Postgres",
        );
        text
    }

    fn number<T: FromStr>(&mut self, key: &str, what: &str) -> Option<T> {
        let value = self.leaf(key)?;
        let text = match value.kind {
            ValueKind::String(text) => text,
            ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::Float(_) | ValueKind::Boolean(_) => {
                value.to_string()
            }
            _ => String::new(),
        };
        let parsed = text.trim().parse().ok();
        self.check(key, parsed.is_some(), &format!("must be {what}"));
        parsed
    }

    pub fn integer(&mut self, key: &str) -> u64 {
        self.note(key, Shape::Number { min: 0, max: None });
        self.number(key, "a whole number, 0 or more").unwrap_or_default()
    }

    pub fn count(&mut self, key: &str, min: usize, max: usize) -> usize {
        let of = |limit| crate::model::count(limit);
        self.note(key, Shape::Number { min: of(min), max: Some(of(max)) });
        let what = format!("a whole number from {min} to {max}");
        let number = self.number(key, &what).unwrap_or(min);
        self.check(key, (min..=max).contains(&number), &format!("must be {what}"));
        number
    }

    pub fn fraction(&mut self, key: &str) -> f64 {
        self.note(key, Shape::Fraction);
        let number = self.number(key, "a number from 0 to 1").unwrap_or(0.0);
        self.check(key, (0.0..=1.0).contains(&number), "must be a number from 0 to 1");
        number
    }

    pub fn boolean(&mut self, key: &str) -> bool {
        self.note(key, Shape::Boolean);
        self.number(key, "true or false").unwrap_or_default()
    }

    pub fn parsed<T: FromStr + From<([u8; 4], u16)>>(&mut self, key: &str, what: &str) -> T {
        self.note(key, Shape::Address);
        self.number(key, what).unwrap_or_else(|| T::from(([127, 0, 0, 1], 0)))
    }

    pub fn one_of<T: Copy>(&mut self, key: &str, choices: &[(&'static str, T)]) -> T {
        let text = self.text(key);
        self.note(key, Shape::OneOf(choices.iter().map(|(name, _)| *name).collect()));
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.check(key, found.is_some(), &format!("must be one of {}", names.join(", ")));
        found
            .or_else(|| choices.first().map(|(_, value)| *value))
            .unwrap_or_else(|| unreachable!("choices are given"))
    }

    pub fn duration(&mut self, key: &str) -> Duration {
        let text = self.text(key);
        self.note(key, Shape::Duration);
        parse_duration(&text).unwrap_or_else(|message| {
            self.problem(key, message);
            Duration::from_secs(1)
        })
    }

    pub fn optional_duration(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key);
        self.note(key, Shape::OptionalDuration);
        if text.is_empty() {
            return None;
        }
        parse_duration(&text).map_err(|message| self.problem(key, message)).ok()
    }

    pub fn size(&mut self, key: &str, min: usize, max: usize) -> usize {
        let text = self.text(key);
        self.note(key, Shape::Size);
        let size = parse_size(&text);
        self.check(key, size.is_some(), "must be a size such as \"512KiB\" or \"8MiB\"");
        let size = size.unwrap_or(min);
        let limits = format!("must be from {}KiB to {}MiB", min >> 10, max >> 20);
        self.check(key, (min..=max).contains(&size), &limits);
        size
    }

    /// A list of texts; an environment variable gives them separated by commas.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        self.note(key, Shape::Texts);
        let Some(value) = self.leaf(key) else { return Vec::new() };
        let texts: Vec<String> = match value.clone().into_array() {
            Ok(elements) => elements.into_iter().map(|element| element.to_string()).collect(),
            Err(_) => value.to_string().split(',').map(|text| text.trim().to_owned()).collect(),
        };
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }

    /// A secret, from its key or from the file named by `<key>_file`.
    pub fn secret(&mut self, key: &str) -> Secret {
        let inline = self.text(key);
        self.note(key, Shape::Secret);
        if let Some((_, shown)) = self.known.last_mut() {
            shown.clear();
            shown.push_str(if inline.is_empty() { "\"\"" } else { "\"***\"" });
        }
        let file_key = format!("{key}_file");
        if !self.leaves.contains_key(&file_key) {
            // Known, so that a misspelling of it is suggested; not printed, because it is not
            // there.
            self.known.push((file_key, String::new()));
            let layer = self.leaves.get(key).map_or(DEFAULT_LAYER, |leaf| &leaf.layer);
            return Secret::of_layer(inline, layer);
        }
        let given = self.leaves.get(key).is_some_and(|leaf| leaf.layer != DEFAULT_LAYER)
            && !inline.is_empty();
        let path = self.text(&file_key);
        self.shapes.remove(&file_key);
        self.check(&file_key, !given, &format!("{key} is given too: keep one of the two"));
        match Secret::from_file(Path::new(&path)) {
            Ok(secret) => secret,
            Err(error) => {
                self.problem(&file_key, format!("{path:?} cannot be read: {error}"));
                Secret::new(String::new())
            }
        }
    }

    /// A URL's scheme; the URL itself is a secret and is not repeated.
    pub fn check_scheme(&mut self, key: &str, value: &Secret, schemes: &[&str]) {
        let scheme = value.expose().split_once("://").map(|(scheme, _)| scheme);
        let known = scheme.is_some_and(|scheme| schemes.contains(&scheme));
        self.check(key, known, &format!("must begin with {}://", schemes.join(":// or ")));
    }

    /// A list such as `[[stream]]`: each element's table, with the layer they came from.
    pub fn tables(&mut self, key: &str) -> Vec<BTreeMap<String, Value>> {
        self.note(key, Shape::Tables(&[]));
        let Some(value) = self.leaf(key) else { return Vec::new() };
        self.known.pop();
        self.known.push((
            key.to_owned(),
            format!("{} defined", value.clone().into_array().map_or(0, |a| a.len())),
        ));
        let Ok(elements) = value.into_array() else {
            self.problem(key, format!("must be a list of tables: [[{key}]]"));
            return Vec::new();
        };
        elements
            .into_iter()
            .map(|v| v.into_table().map(|t| t.into_iter().collect()).unwrap_or_default())
            .collect()
    }
}

/// The message for an unknown key: the nearest known one is suggested if it is near.
pub(super) fn unknown_key<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(key, known).map_or_else(
        || "is not a key; config/default.toml lists them all".to_owned(),
        |nearest| format!("is not a key; did you mean {nearest}?"),
    )
}

/// The nearest of the known words, if it is near.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = known.map(|k| (strsim::damerau_levenshtein(word, k), k)).min()?;
    (distance <= 3.max(word.len() / 4)).then_some(nearest)
}

pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|_| format!("must be a duration such as \"500ms\" or \"3h\", not {text:?}"))?;
    if parsed > Duration::from_secs(366 * 86_400) {
        return Err("must be at most a year".to_owned());
    }
    Ok(parsed)
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let scale = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(scale)
}
