//! What Postgres answers when it refuses, and what is told of it.
//!
//! A text is repeated only if it is Postgres's own about Postgres's own: not where it may quote a
//! value, and not where it comes out of a function or trigger, whose author may have put anything
//! into it, names included.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::sqlstate::{POOLER, State, Whose, found};
use crate::error::{Class, Code, Fault};

/// Why a statement about rows did not pass.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Postgres refused it, and a part of its rows may pass.
    Refused(Refusal),
    /// Whatever the rows are.
    Failed(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(refusal) => refusal.fault,
            Trouble::Failed(fault) => fault,
        }
    }
}

/// What Postgres answered about rows.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub whose: Whose,
    /// What it is if no single row is at fault. Its message holds no content.
    pub fault: Fault,
}

/// One answer, as far as anything is concluded from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    state: &'a str,
    message: &'a str,
    /// The session ends with it.
    fatal: bool,
    /// It arose inside a function or trigger (or a COPY): the text may be somebody else's.
    inside: bool,
    /// A function's author said so, with an SQLSTATE and names of their choice.
    raised: bool,
    constraint: Option<&'a str>,
    column: Option<&'a str>,
}

/// Classes whose texts are Postgres's own words about itself: session, rights, catalogue,
/// resources.
const OWN_WORDS: [&str; 12] =
    ["08", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58"];

impl<'a> Answer<'a> {
    pub fn of(error: &'a PgDatabaseError) -> Self {
        Self {
            state: error.code(),
            message: error.message(),
            fatal: matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic),
            inside: error.r#where().is_some(),
            raised: error.routine() == Some("exec_stmt_raise"),
            constraint: error.constraint(),
            column: error.column(),
        }
    }

    /// The session is over, so this is no answer to what it was doing.
    pub fn ends_the_session(&self) -> bool {
        self.fatal || self.state.starts_with("57P") || self.state.starts_with("08")
    }

    pub fn fault(&self) -> Fault {
        if self.is_of_a_pooler() {
            let message = format!(
                "a pooler stands between tidemark and postgres, and refuses: {}",
                self.text()
            );
            return Fault::new(Class::Halt, Code::TargetUnreachable, message, POOLER);
        }
        let State { class, code, hint, .. } = found(self.state);
        Fault::new(*class, *code, self.text(), hint)
    }

    /// Postgres ignores no option that it does not know, and knows of no pooling.
    fn is_of_a_pooler(&self) -> bool {
        self.state == "08P01"
            && (self.message.starts_with("unsupported startup parameter")
                || self.message.contains("pooling mode"))
    }

    /// `None` if it is not about rows at all.
    pub fn refusal(&self) -> Option<Refusal> {
        let whose = match self {
            Self { fatal: true, .. } => Whose::End,
            // A function's author refuses, whatever SQLSTATE they chose.
            Self { raised: true, .. } => Whose::Row,
            _ => found(self.state).whose,
        };
        (whose != Whose::End).then(|| Refusal { whose, fault: self.fault() })
    }

    fn text(&self) -> String {
        let Self { state, message, .. } = self;
        if self.raised {
            return format!("refused by a function or trigger (SQLSTATE {state})");
        }
        let told = match *state {
            "40P01" => Some("a deadlock was broken"),
            "55P03" => Some("a lock was not had in time"),
            "57014" => Some("a statement ran longer than it may"),
            _ if self.inside => Some("refused in the midst of it, by a function or trigger"),
            _ => None,
        };
        if let Some(told) = told {
            return format!("{told} (SQLSTATE {state})");
        }
        if OWN_WORDS.iter().any(|class| state.starts_with(class)) {
            return format!("{message} (SQLSTATE {state})");
        }
        match (self.constraint, self.column) {
            (Some(name), _) => format!("value violates constraint {name} (SQLSTATE {state})"),
            (None, Some(name)) => {
                format!("value cannot be stored in column {name} (SQLSTATE {state})")
            }
            (None, None) if ["22", "23", "54"].iter().any(|class| state.starts_with(class)) => {
                format!("value cannot be stored (SQLSTATE {state})")
            }
            (None, None) => format!("refused (SQLSTATE {state})"),
        }
    }
}

#[cfg(test)]
mod tests;
