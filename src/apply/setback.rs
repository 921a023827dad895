//! Why a commit was not made, and of which table that is.

use super::insert_path::InsertPath;
use super::slow_tables::held_up;
use crate::error::{Class, Code, Fault};
use crate::postgres::Trouble;

/// Why a commit was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// The stream whose table it is about; `None` if it is about more.
    pub stream: Option<usize>,
    pub fault: Fault,
    /// A statement of it was cancelled twice, because others wait: unless the server is slow, the
    /// table is to be left out.
    pub held_up: bool,
}

impl Setback {
    pub(super) const fn of(stream: Option<usize>, fault: Fault) -> Self {
        Self { stream, fault, held_up: false }
    }

    pub(super) fn of_a_slow_table(stream: usize) -> Self {
        let how = "a statement on it did not end in time, nor when it was tried once more";
        Self { stream: Some(stream), fault: held_up(how), held_up: true }
    }
}

impl From<Fault> for Setback {
    fn from(fault: Fault) -> Self {
        Self::of(None, fault)
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
