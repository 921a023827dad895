//! Why a command cannot do what it is asked: a slip of whoever asks, which is no incident of
//! anything, or a fault of one of the ends.

use crate::error::Fault;
use crate::model::shown::shown;

/// What was asked for is not there, or cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Slip {
    /// One lower-case clause.
    pub message: String,
    /// How to ask instead; empty where the message says it.
    pub hint: &'static str,
}

impl Slip {
    /// The message may repeat what was asked for: a terminal only shows it.
    pub fn new(message: impl AsRef<str>, hint: &'static str) -> Self {
        Self { message: shown(message.as_ref()), hint }
    }
}

/// Why a command ended without doing what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unable {
    #[error(transparent)]
    Slip(#[from] Slip),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Unable {
    /// What a person can do about it; empty where nothing is needed.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Slip(slip) => slip.hint,
            Self::Fault(fault) => fault.hint,
        }
    }

    /// Whether the same may work later, as it is.
    pub const fn may_retry(&self) -> bool {
        match self {
            Self::Slip(_) => false,
            Self::Fault(fault) => fault.class.may_retry(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Code};

    #[test]
    fn a_slip_is_told_as_a_fault_is_and_never_tried_again() {
        let slip = Unable::from(Slip::new("there is no stream \u{1b}[2Jx", "see the list"));
        assert_eq!((slip.hint(), slip.may_retry()), ("see the list", false));
        assert!(!slip.to_string().contains('\u{1b}'), "{slip}");
        let fault = Fault::new(Class::Transient, Code::TargetUnreachable, "away", "");
        assert!(Unable::from(fault).may_retry());
    }
}
