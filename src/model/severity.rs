//! How bad something is.

use super::vocabulary::vocabulary;

vocabulary! {
    /// Critical: the table is or will soon be wrong or standing still. Warning: look in working
    /// hours.
    pub enum Severity {
        Info = "info",
        Warning = "warning",
        Critical = "critical",
    }
}
