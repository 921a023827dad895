//! Column arrays for `unnest`, read out of encoded rows straight into the message that goes on the
//! wire.

use std::ops::Range;

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, Postgres};
use sqlx::{Type, TypeInfo};

use super::rows::Rows;
use crate::model::value::{ColumnType, array_literal, read_field};

/// (element oid, array oid) of a column's type; `pg_type.dat` in Postgres's source.
const fn oids(kind: ColumnType) -> (u32, u32) {
    match kind {
        // Arrays cannot be elements of an array: they travel as array literals and are cast in the
        // statement.
        ColumnType::Text | ColumnType::TextArray => (25, 1009),
        ColumnType::Boolean => (16, 1000),
        ColumnType::Integer => (23, 1007),
        ColumnType::Bigint => (20, 1016),
        ColumnType::Double => (701, 1022),
        ColumnType::Numeric => (1700, 1231),
        ColumnType::Date => (1082, 1182),
        ColumnType::Timestamptz => (1184, 1185),
        ColumnType::Jsonb => (3802, 3807),
    }
}

/// One column of a range of rows, as a binary array.
pub(super) struct ColumnArray<'r> {
    rows: &'r Rows,
    range: Range<usize>,
    kind: ColumnType,
    /// Where in its tuple each row's field begins.
    places: Vec<usize>,
}

/// Reads the columns of a range of rows one after the other.
pub(super) struct Columns<'r> {
    rows: &'r Rows,
    range: Range<usize>,
    places: Vec<usize>,
}

impl<'r> Columns<'r> {
    pub fn new(rows: &'r Rows, range: Range<usize>) -> Self {
        let places = vec![2; range.len()];
        Self { rows, range, places }
    }

    pub fn next(&mut self, kind: ColumnType) -> ColumnArray<'r> {
        let column = ColumnArray {
            rows: self.rows,
            range: self.range.clone(),
            kind,
            places: self.places.clone(),
        };
        for (place, index) in self.places.iter_mut().zip(self.range.clone()) {
            read_field(self.rows.tuple(index).unwrap_or_default(), place);
        }
        column
    }
}

impl Type<Postgres> for ColumnArray<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(oids(ColumnType::Text).1))
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        !ty.is_null()
    }
}

impl Encode<'_, Postgres> for ColumnArray<'_> {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(oids(self.kind).1)))
    }

    fn encode_by_ref(&self, out: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let length = i32::try_from(self.range.len())?;
        // Dimensions, "may hold NULLs", element type, length, lower bound.
        for header in [1, 1, oids(self.kind).0.cast_signed(), length, 1] {
            out.extend_from_slice(&i32::to_be_bytes(header));
        }
        for (&place, index) in self.places.iter().zip(self.range.clone()) {
            let mut place = place;
            match read_field(self.rows.tuple(index).unwrap_or_default(), &mut place) {
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) if self.kind == ColumnType::TextArray => {
                    let literal =
                        array_literal(value).ok_or("a text[] that was not encoded as one")?;
                    out.extend_from_slice(&i32::try_from(literal.len())?.to_be_bytes());
                    out.extend_from_slice(&literal);
                }
                Some(value) => {
                    out.extend_from_slice(&i32::try_from(value.len())?.to_be_bytes());
                    out.extend_from_slice(value);
                }
            }
        }
        Ok(IsNull::No)
    }
}
