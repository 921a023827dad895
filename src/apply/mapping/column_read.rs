//! What each column reads of one document, for a person who asks.

use super::{Mapping, encode};
use crate::apply::drift::unfit;
use crate::apply::shape::Shapes;
use crate::model::bson::Doc;
use crate::model::fitting::Fitting;
use crate::model::value::{Fit, Unwritable, find};

/// What a column reads of a document. Holds no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRead {
    /// Which of the column's paths the document has: the field's own is the first, its aliases
    /// follow.
    pub path: Option<usize>,
    /// The type of the value in the document, and its size in BSON.
    pub found: Option<(&'static str, usize)>,
    pub fitting: Fitting,
}

impl Mapping {
    /// By column.
    ///
    /// # Errors
    /// The document is not BSON, or has more fields than it may.
    pub fn read(&self, document: Doc<'_>) -> Result<Vec<ColumnRead>, Unwritable> {
        let redacted = self.redacted(document)?;
        let document = Doc::new(&redacted)?;
        let fields = self.fields_of(document)?;
        let shape = Shapes::default().of(self.seed, &self.heads, &fields);
        let read = self.columns.iter().enumerate().map(|(index, column)| {
            let value = self.value(index, column, &shape, &fields);
            let fit = encode(value, column, self.bound(0), &mut Vec::new());
            let fitting = match (fit, value) {
                (Fit::Value, _) => Fitting::Fits,
                (Fit::TooLarge, _) => Fitting::TooLarge,
                (Fit::Drift, Some(value)) => Fitting::of_drift(unfit(value, column.kind)),
                (Fit::Null, Some(_)) => Fitting::Null,
                (Fit::Drift | Fit::Null, None) => Fitting::Missing,
            };
            ColumnRead {
                path: column.paths.iter().position(|path| find(document, path).is_some()),
                found: value.map(|value| (value.type_name(), value.bytes.len())),
                fitting,
            }
        });
        Ok(read.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::ColumnType;
    use crate::settings::{Column, RowLimits, StreamSettings};

    #[test]
    fn each_column_is_told_by_the_path_that_was_taken_and_how_its_value_fits() {
        let column = |paths: &[&str], kind| Column {
            name: "c".into(),
            paths: paths.iter().map(|p| p.split('.').map(Into::into).collect()).collect(),
            kind,
            required: false,
            mask: None,
            zone: None,
        };
        let columns = [
            column(&["name"], ColumnType::Text),
            column(&["old", "a.b"], ColumnType::Integer),
            column(&["name"], ColumnType::Date),
            column(&["large"], ColumnType::Integer),
            column(&["none"], ColumnType::Text),
            column(&["nowhere", "a.c"], ColumnType::Text),
        ];
        let document = bson::doc! {
            "_id": 1, "name": "Mary", "a": { "b": 7 }, "large": 1_i64 << 40, "none": null,
        };
        let bytes = bson::serialize_to_vec(&document).unwrap();
        let limits = RowLimits { fields_max: 100, bytes_max: 1_000 };
        let read = Mapping::new(&StreamSettings::of_columns(columns.to_vec()), limits)
            .read(Doc::new(&bytes).unwrap())
            .unwrap();
        let told: Vec<_> = read.iter().map(|r| (r.path, r.fitting)).collect();
        let expected = [
            (Some(0), Fitting::Fits),
            (Some(1), Fitting::Fits),
            (Some(0), Fitting::Type),
            (Some(0), Fitting::Range),
            (Some(0), Fitting::Null),
            (None, Fitting::Missing),
        ];
        assert_eq!(told, expected);
        assert_eq!(read[0].found, Some(("string", 9)));
        assert_eq!(read[5].found, None);
    }
}
