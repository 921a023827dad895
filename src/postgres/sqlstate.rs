//! SQLSTATEs: what each one means, whose trouble it can be, and whose words its text is made of.
//!
//! A text is repeated only if it is Postgres's own about Postgres's own: not where it may quote a
//! value, and not where it comes out of a function or trigger, whose author may have put anything
//! into it, names included.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::error::{Class, Code, Fault};

/// What to do about a server that takes no writes, if it goes on.
pub(super) const PRIMARY: &str =
    "let target.url name the primary, or every host that may become it";

/// What to do about a pooler that is in the way.
pub(super) const POOLER: &str = "let target.url lead to postgres itself, or to a pool in session \
                                 mode (pgbouncer: pool_mode = session)";

/// Whose trouble an answer can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The session's or the server's as a whole: no row is looked for.
    End,
    /// The table's; a row's only where other rows pass.
    Table,
    /// A row's.
    Row,
    /// Time ran out: fewer rows at once may pass.
    Time,
}

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

struct State {
    prefix: &'static str,
    class: Class,
    code: Code,
    whose: Whose,
    hint: &'static str,
}

const fn away(prefix: &'static str, hint: &'static str) -> State {
    State {
        prefix,
        class: Class::Transient,
        code: Code::TargetUnreachable,
        whose: Whose::End,
        hint,
    }
}

const fn person(prefix: &'static str, code: Code, whose: Whose, hint: &'static str) -> State {
    State { prefix, class: Class::Halt, code, whose, hint }
}

/// Where it is no followed table's row, one of tidemark's own tables refuses.
const fn row(prefix: &'static str) -> State {
    let hint = "a constraint or trigger refuses what tidemark writes: mend it or take it off";
    person(prefix, Code::TargetSchemaMismatch, Whose::Row, hint)
}

const MIGRATE: &str = "run `tidemark migrate`";

/// By class or by single state, named as the `PostgreSQL` manual's appendix A names them; longest
/// match first.
///
/// What a wrong row costs: trouble of an end taken for a row's sets good rows aside, one after the
/// other; a row's taken for an end's stops the stream for a row that will never pass.
const STATES: &[State] = &[
    away("08", ""), // connection_exception
    // A statement that was prepared is not there, or one that was not is: the session is another
    // one.
    person("26", Code::TargetUnreachable, Whose::End, POOLER), // invalid_sql_statement_name
    person("42P05", Code::TargetUnreachable, Whose::End, POOLER), // duplicate_prepared_statement
    away("40", ""), // transaction_rollback: serialization_failure, deadlock_detected
    away("55P03", ""), // lock_not_available
    // too_many_connections
    away("53300", "raise max_connections, or find what holds the connections"),
    away("57P", ""), // admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped
    away("25P03", ""), // idle_in_transaction_session_timeout
    away("72", ""),  // snapshot_too_old
    State {
        prefix: "57014", // query_canceled
        class: Class::Transient,
        code: Code::TargetSlow,
        whose: Whose::Time,
        hint: "see what holds the table up: a foreign key without an index, a trigger",
    },
    State {
        prefix: "53200", // out_of_memory
        class: Class::Transient,
        code: Code::TargetUnreachable,
        whose: Whose::Table,
        hint: "the Postgres server is out of memory",
    },
    person(
        "28", // invalid_authorization_specification
        Code::TargetUnauthorised,
        Whose::End,
        "check the user and password in target.url, and pg_hba.conf",
    ),
    person(
        "3D000", // invalid_catalog_name
        Code::TargetSchemaMismatch,
        Whose::End,
        "create the database, or name another one in target.url",
    ),
    person("3F000", Code::TargetSchemaMismatch, Whose::Table, MIGRATE), // invalid_schema_name
    person(
        "42501", // insufficient_privilege
        Code::TargetUnauthorised,
        Whose::Table,
        "grant the privileges that the README lists",
    ),
    person("42P01", Code::TargetSchemaMismatch, Whose::Table, MIGRATE), // undefined_table
    person("42703", Code::TargetSchemaMismatch, Whose::Table, MIGRATE), // undefined_column
    person(
        "42804", // datatype_mismatch
        Code::TargetSchemaMismatch,
        Whose::Table,
        "a column's type in the table is not that of [[stream.column]]: alter one of the two",
    ),
    person(
        "42P10", // invalid_column_reference
        Code::TargetSchemaMismatch,
        Whose::Table,
        "the table needs a unique index on (id), such as a primary key, that is neither partial \
         nor deferrable",
    ),
    person(
        "42", // syntax_error_or_access_rule_violation
        Code::TargetSchemaMismatch,
        Whose::Table,
        "compare the table with [[stream.column]]; `tidemark check` names the statement",
    ),
    person(
        "0A", // feature_not_supported
        Code::TargetSchemaMismatch,
        Whose::Table,
        "the table is of a kind that cannot be written to so",
    ),
    person(
        "55", // object_not_in_prerequisite_state
        Code::TargetSchemaMismatch,
        Whose::Table,
        "the table is in a state in which it cannot be written to",
    ),
    // disk_full
    person("53100", Code::TargetFull, Whose::End, "free disk space on the Postgres server"),
    away("25006", PRIMARY),         // read_only_sql_transaction
    row("21"),                      // cardinality_violation
    row("22"),                      // data_exception
    row("23"),                      // integrity_constraint_violation
    row("54"),                      // program_limit_exceeded
    row("P0"),                      // plpgsql_error
    unknown("25", Whose::End),      // invalid_transaction_state
    unknown("3B", Whose::End),      // savepoint_exception
    unknown("53", Whose::Table),    // insufficient_resources
    unknown("58", Whose::Table),    // system_error
    unknown("F0", Whose::End),      // config_file_error
    unknown("XX001", Whose::Table), // data_corrupted
    unknown("XX002", Whose::Table), // index_corrupted
];

const fn unknown(prefix: &'static str, whose: Whose) -> State {
    State { prefix, class: Class::Unknown, code: Code::TargetUnreachable, whose, hint: "" }
}

/// In no table: where it is about rows, the row is looked for.
const UNLISTED: State = unknown("", Whose::Row);

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

    fn found(&self) -> &'static State {
        STATES.iter().find(|state| self.state.starts_with(state.prefix)).unwrap_or(&UNLISTED)
    }

    pub fn fault(&self) -> Fault {
        if self.is_of_a_pooler() {
            let message = format!(
                "a pooler stands between tidemark and postgres, and refuses: {}",
                self.text()
            );
            return Fault::new(Class::Halt, Code::TargetUnreachable, message, POOLER);
        }
        let State { class, code, hint, .. } = self.found();
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
            _ => self.found().whose,
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
