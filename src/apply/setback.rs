//! Why a commit was not made, and of which table that is.

use super::insert_path::InsertPath;
use crate::error::{Class, Code, Fault};
use crate::postgres::Trouble;

/// Why a commit was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// The stream whose table it is about; `None` if it is about more.
    pub stream: Option<usize>,
    pub fault: Fault,
}

impl From<Fault> for Setback {
    fn from(fault: Fault) -> Self {
        Self { stream: None, fault }
    }
}

/// Trouble with a commit, and with which of its works if with one.
pub(super) struct Met {
    pub work: Option<usize>,
    /// The stream whose table it is about, if it has no work.
    pub stream: Option<usize>,
    pub trouble: Trouble,
}

impl From<Fault> for Met {
    fn from(fault: Fault) -> Self {
        Self { work: None, stream: None, trouble: Trouble::Failed(fault) }
    }
}

/// Whether a failure that was met on a table's statements is the table's: the others go on.
pub(super) const fn is_of_the_table(fault: &Fault) -> bool {
    match fault.class {
        Class::HistoryLost => true,
        Class::Halt => matches!(fault.code, Code::DeadLetterRate | Code::TargetSchemaMismatch),
        _ => false,
    }
}

/// Every work by the next path; `false` if there is none.
pub(super) fn widen(paths: &mut [InsertPath]) -> bool {
    let before = paths.to_vec();
    for path in paths.iter_mut() {
        *path = path.next();
    }
    paths != before
}
