//! What the rows of a stream hold of its documents.

use super::child::Child;
use super::columns::Column;
use super::keeping::Keeping;

/// The columns of a row, what is kept beside them, and what goes into other tables.
#[derive(Debug, Clone, Copy)]
pub struct RowSpec<'a> {
    pub columns: &'a [Column],
    pub keeping: Keeping,
    pub children: &'a [Child],
}

#[cfg(test)]
impl<'a> RowSpec<'a> {
    /// Of rows without arrays in other tables.
    pub const fn of(columns: &'a [Column], keeping: Keeping) -> Self {
        Self { columns, keeping, children: &[] }
    }
}
