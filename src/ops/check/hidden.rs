//! What a stream hides, against what its documents have: a path that is misspelt hides nothing.

use super::finding::Finding;
use crate::model::bson::Doc;
use crate::model::redaction::{FieldPath, Hidden, is_there};

const REMEDY: &str = "a path that no document has hides nothing: compare its spelling with the \
                      documents', case included";

/// The paths that a stream's configuration names, each with how many documents have it.
#[derive(Debug, Default)]
pub(super) struct HiddenPaths(Vec<(String, FieldPath, u64)>);

impl HiddenPaths {
    pub fn of(hidden: &Hidden) -> Self {
        let named = |how: &'static str, paths: &[FieldPath]| {
            paths.iter().map(|path| (how.to_owned(), path.clone(), 0)).collect::<Vec<_>>()
        };
        let masks =
            hidden.masks.iter().map(|(path, mask)| (format!("mask {mask}"), path.clone(), 0));
        let mut all = named("include", &hidden.include);
        all.extend(named("exclude", &hidden.exclude));
        all.extend(masks);
        Self(all)
    }

    pub fn look(&mut self, document: Doc<'_>) {
        for (_, path, number) in &mut self.0 {
            *number += u64::from(is_there(document, path));
        }
    }

    /// `None` where nothing is hidden.
    pub fn finding(&self, what: String, seen: u64) -> Option<Finding> {
        let told: Vec<String> = self
            .0
            .iter()
            .map(|(how, path, number)| format!("{how} {} in {number}", path.join(".")))
            .collect();
        let is_in_none = seen > 0 && self.0.iter().any(|(_, _, number)| *number == 0);
        (!told.is_empty()).then(|| Finding {
            remedy: if is_in_none { REMEDY.to_owned() } else { String::new() },
            ..Finding::ok(what, format!("{} of {seen} documents sampled", told.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::redaction::{Mask, parse_path};

    #[test]
    fn a_path_that_no_document_has_is_told_with_what_to_do() {
        let path = |text: &str| parse_path(text).unwrap();
        let hidden = |street: &str| Hidden {
            exclude: vec![path(street)],
            masks: vec![(path("ssn"), Mask::Hash)],
            ..Hidden::default()
        };
        let bytes = bson::doc! { "ssn": 1, "address": [{ "street": "x" }] }.to_vec().unwrap();
        let told = |street: &str| {
            let mut paths = HiddenPaths::of(&hidden(street));
            paths.look(Doc::new(&bytes).unwrap());
            paths.finding("hidden in c".to_owned(), 1).unwrap()
        };
        let right = told("address.street");
        let detail = "exclude address.street in 1, mask hash ssn in 1 of 1 documents sampled";
        assert_eq!((right.detail.as_str(), right.remedy.as_str()), (detail, ""));
        let wrong = told("address.Street");
        assert!(wrong.ok && wrong.detail.contains("address.Street in 0"), "{wrong:?}");
        assert!(wrong.remedy.starts_with("a path that no document has hides nothing"));
        assert_eq!(HiddenPaths::default().finding(String::new(), 1), None);
    }
}
