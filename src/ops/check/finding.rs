//! One finding of `check`: proved, not there yet, or wrong and what to do about it.

use serde::Serialize;

use crate::error::Fault;
use crate::state::is_too_old;

/// One thing proved, or not.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub ok: bool,
    /// What was found, or what is wrong.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
    /// A dependency did not answer: not a fault of the configuration.
    pub down: bool,
    /// Another release is wanted.
    #[serde(skip)]
    pub too_old: bool,
}

/// On one line, for whoever is refused.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.detail)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ok: true,
            detail: detail.into(),
            remedy: String::new(),
            down: false,
            too_old: false,
        }
    }

    pub(super) fn failed(what: impl Into<String>, fault: &Fault) -> Self {
        let (detail, remedy) = (fault.message.clone(), fault.hint.to_owned());
        let (down, too_old) = (fault.class.may_retry(), is_too_old(fault));
        Self { what: what.into(), ok: false, detail, remedy, down, too_old }
    }

    /// What `run` sees to by itself is no failure.
    pub(super) fn pending(what: impl Into<String>, detail: &str) -> Self {
        Self::ok(what, format!("not there yet: {detail}"))
    }

    pub(super) fn of(what: impl Into<String>, result: Result<String, Fault>) -> Self {
        match result {
            Ok(detail) => Self::ok(what, detail),
            Err(fault) => Self::failed(what, &fault),
        }
    }
}
