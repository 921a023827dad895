//! SQLSTATEs: what each one means, and whose trouble it can be.

use crate::error::{Class, Code};

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
    /// Somebody's who holds the table locked: no row passes until they let go.
    Lock,
}

/// One row of the table.
pub(super) struct State {
    prefix: &'static str,
    pub class: Class,
    pub code: Code,
    pub whose: Whose,
    pub hint: &'static str,
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
    State {
        prefix: "55P03", // lock_not_available
        class: Class::Transient,
        code: Code::TargetSlow,
        whose: Whose::Lock,
        hint: "see who holds a lock on the table: pg_locks, pg_stat_activity",
    },
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

/// What is known of an SQLSTATE.
pub(super) fn found(state: &str) -> &'static State {
    STATES.iter().find(|known| state.starts_with(known.prefix)).unwrap_or(&UNLISTED)
}
