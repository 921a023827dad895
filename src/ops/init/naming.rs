//! Names in Postgres's way for what is named in another: snake case, short enough, none twice.

use std::collections::BTreeSet;

/// The limit of a name in Postgres.
const BYTES_MAX: usize = 63;

/// Names that a column cannot have: tidemark's own, and those of Postgres's system columns.
const COLUMNS: &[&str] = &[
    "id",
    "doc",
    "_cluster_time",
    "_applied_at",
    "_deleted_at",
    "_hash",
    "_operation",
    "_valid_from",
    "_valid_from_at",
    "_valid_to",
    "_valid_to_at",
    "tableoid",
    "xmin",
    "cmin",
    "xmax",
    "cmax",
    "ctid",
];

/// The same of a table of an array's elements.
const ELEMENT_COLUMNS: &[&str] =
    &["parent_id", "position", "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Names of streams that commands would take for something else, and of the first group.
const STREAMS: &[&str] = &["main", "list", "cancel", "approve", "reload"];

/// The names that are taken; each that is given out is another.
#[derive(Debug, Default)]
pub struct Names {
    taken: BTreeSet<String>,
    reserved: &'static [&'static str],
}

impl Names {
    /// For the columns of one table.
    pub fn of_columns() -> Self {
        Self { reserved: COLUMNS, ..Self::default() }
    }

    /// For the columns of the table of an array's elements.
    pub fn of_element_columns() -> Self {
        Self { reserved: ELEMENT_COLUMNS, ..Self::default() }
    }

    /// For streams, beside those that there are.
    pub fn of_streams(taken: impl IntoIterator<Item = String>) -> Self {
        Self { taken: taken.into_iter().collect(), reserved: STREAMS }
    }

    /// For tables, beside those that there are.
    pub fn of_tables(taken: impl IntoIterator<Item = String>) -> Self {
        Self { taken: taken.into_iter().collect(), ..Self::default() }
    }

    /// A free name like this one. What is reserved is told apart by what it is (`id_field`), what
    /// stands twice by a number.
    pub fn give(&mut self, wanted: &str, what: &str) -> String {
        let is_reserved = self.reserved.contains(&wanted);
        let plain = cut(wanted, BYTES_MAX).to_owned();
        let named = is_reserved.then(|| with_suffix(wanted, &format!("_{what}")));
        let numbered = (2_u64..).map(|number| with_suffix(wanted, &format!("_{number}")));
        let mut candidates = std::iter::once(plain).chain(named).chain(numbered);
        let is_free =
            |name: &String| !self.taken.contains(name) && !self.reserved.contains(&&**name);
        let free = candidates.find(is_free).unwrap_or_default();
        self.taken.insert(free.clone());
        free
    }

    /// Nothing gets this name any more.
    pub fn take(&mut self, name: String) {
        self.taken.insert(name);
    }
}

fn with_suffix(name: &str, suffix: &str) -> String {
    format!("{}{suffix}", cut(name, BYTES_MAX - suffix.len()))
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().trim_end_matches('_')
}

/// `doctorFirstName` → `doctor_first_name`, `NHSNumber` → `nhs_number`, `e-mail` → `e_mail`.
/// `otherwise` where nothing is left, and before a digit.
pub fn snake(name: &str, otherwise: &str) -> String {
    let words = words(name).join("_");
    if words.is_empty() {
        otherwise.to_owned()
    } else if words.starts_with(|c: char| c.is_ascii_digit()) {
        format!("{otherwise}_{words}")
    } else {
        words
    }
}

/// The same of ASCII only: a label in metrics and commands.
pub fn label(name: &str, otherwise: &str) -> String {
    let ascii: String = name.chars().map(|c| if c.is_ascii() { c } else { ' ' }).collect();
    snake(&ascii, otherwise)
}

/// The words of a name, in lower case.
pub fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (place, c) in chars.iter().enumerate() {
        let before = place.checked_sub(1).and_then(|place| chars.get(place));
        let after = chars.get(place + 1);
        let begins = c.is_uppercase()
            && before.is_some_and(|before| {
                !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase())
            });
        if (begins || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_taken_apart_where_a_person_would() {
        for (name, expected) in [
            ("doctorFirstName", "doctor_first_name"),
            ("NHSNumber", "nhs_number"),
            ("gmcLastUpdatedDateTime", "gmc_last_updated_date_time"),
            ("orderID", "order_id"),
            ("e-mail", "e_mail"),
            ("Total (£)", "total"),
            ("already_snake__case_", "already_snake_case"),
            ("__v", "v"),
            ("$ref", "ref"),
            ("2fa", "field_2fa"),
            ("address2", "address2"),
            ("Größe", "größe"),
            ("$$$", "field"),
            ("", "field"),
        ] {
            assert_eq!(snake(name, "field"), expected, "{name}");
        }
        assert_eq!(label("größe", "collection"), "gr_e");
        assert_eq!(label("заказы", "collection"), "collection");
    }

    #[test]
    fn what_is_reserved_or_taken_is_told_apart() {
        let mut names = Names::of_columns();
        let given =
            ["id", "id", "id", "ctid", "a", "a", "id_field"].map(|n| names.give(n, "field"));
        let expected = ["id_field", "id_2", "id_3", "ctid_field", "a", "a_2", "id_field_2"];
        assert_eq!(given, expected);
        let mut names = Names::of_streams(["orders".to_owned()]);
        assert_eq!(names.give("orders", "collection"), "orders_2");
        assert_eq!(names.give("main", "collection"), "main_collection");
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_postgres_keeps_as_it_is(raw in "\\PC{0,90}") {
            let mut names = Names::of_columns();
            let given: Vec<String> =
                (0..12).map(|_| names.give(&snake(&raw, "field"), "field")).collect();
            let different: BTreeSet<&String> = given.iter().collect();
            prop_assert_eq!(different.len(), given.len());
            for name in &given {
                prop_assert!(!name.is_empty() && name.len() <= BYTES_MAX, "{}", name);
                prop_assert!(!COLUMNS.contains(&name.as_str()), "{}", name);
            }
            let label = label(&raw, "collection");
            prop_assert!(label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        }
    }
}
