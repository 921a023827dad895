//! The table `dead_letter`: events that were set aside, whole but for what their stream hides;
//! listed, looked at, resolved, and rewritten when the stream hides more.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::{StateTables, stream};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::model::redaction::Evidence;
use crate::postgres::with_deadline;

/// One event that was set aside.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Letter {
    pub id: i64,
    pub stream: String,
    pub document_id: Option<String>,
    pub operation: String,
    /// Raw BSON, but for what its stream hides.
    #[serde(skip)]
    pub event: Vec<u8>,
    pub code: String,
    pub error: String,
    pub at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
    /// `retried` or `discarded`.
    pub resolution: Option<String>,
}

/// A letter that is to be rewritten, as another configuration made it.
#[derive(Debug, Clone, FromRow)]
pub struct OldLetter {
    pub id: i64,
    pub operation: String,
    pub event: Vec<u8>,
    /// What it was made under.
    redaction: Option<Vec<u8>>,
}

/// One event to be set aside.
#[derive(Debug, Clone, Copy)]
pub struct SetAside<'a> {
    pub document_id: Option<&'a str>,
    pub operation: &'a str,
    /// Raw BSON, but for what its stream hides.
    pub event: &'a [u8],
    pub code: &'a str,
    pub error: &'a str,
    pub cluster_time: Option<ClusterTime>,
}

const COLUMNS: &str =
    "id, stream, document_id, operation, event, code, error, at, resolved_at, resolution";

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    One(i64),
    /// All of a stream that are not resolved; at most so many.
    Open {
        stream: String,
        limit: i64,
    },
    /// The latest, resolved ones too.
    Latest {
        limit: i64,
    },
}

impl StateTables {
    /// The dead letters that are meant, of the owner's streams and of those that are nobody's yet.
    pub async fn letters(&self, which: &Letters) -> Result<Vec<Letter>, Fault> {
        let (condition, number, of) = match which {
            Letters::One(id) => ("id = $1", *id, ""),
            Letters::Open { stream, limit } => (
                "stream = $2 and resolved_at is null order by id limit $1",
                *limit,
                stream.as_str(),
            ),
            Letters::Latest { limit } => {
                ("$2 = '' order by resolved_at is not null, id desc limit $1", *limit, "")
            }
        };
        // Each form names both parameters, so that one statement's shape does for all.
        let (schema, ours) = (&self.schema, stream::is_not_anothers(&self.schema, "d.stream", 3));
        let sql = format!(
            "select {COLUMNS} from {schema}.dead_letter as d where {ours} and $2::text is not null \
             and {condition}"
        );
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(number)
            .bind(of)
            .bind(&owner.service)
            .bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// The dead letters of one document that are not resolved, oldest first.
    pub async fn letters_of(&self, stream: &str, document: &str) -> Result<Vec<Letter>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.dead_letter where stream = $1 and document_id = $2 and \
             resolved_at is null order by id limit 100",
            self.schema
        ));
        let query = sqlx::query_as(sql).bind(stream).bind(document);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Gives dead letters up for good, in the caller's transaction. They stay in the table for as
    /// long as `retention` says.
    pub(super) async fn discard_letters(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        ids: &[i64],
    ) -> Result<u64, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.dead_letter set resolved_at = now(), resolution = 'discarded' \
             where stream = $1 and id = any($2) and resolved_at is null",
            self.schema
        ));
        let query = sqlx::query(sql).bind(stream).bind(ids);
        Ok(with_deadline(self.deadline, query.execute(connection)).await?.rows_affected())
    }

    /// Marks a dead letter as retried, in the caller's transaction.
    pub async fn resolve_letter(
        &self,
        connection: &mut PgConnection,
        id: i64,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.dead_letter set resolved_at = now(), resolution = 'retried' where id = $1 \
             and resolved_at is null",
            self.schema
        ));
        with_deadline(self.deadline, sqlx::query(sql).bind(id).execute(connection)).await.map(drop)
    }

    /// Sets events of a stream aside, in the caller's transaction; with the mark of what the stream
    /// hides, which is empty for nothing.
    pub async fn set_aside(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        redaction: &[u8],
        letters: &[SetAside<'_>],
    ) -> Result<(), Fault> {
        if letters.is_empty() {
            return Ok(());
        }
        let sql = AssertSqlSafe(format!(
            "insert into {}.dead_letter (stream, document_id, operation, event, code, error, \
             cluster_time, redaction) select $1, d.*, $8 from unnest($2::text[], $3::text[], \
             $4::bytea[], $5::text[], $6::text[], $7::bigint[]) as d",
            self.schema
        ));
        let time = |letter: &SetAside<'_>| letter.cluster_time.map(ClusterTime::to_sql);
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(letters.iter().map(|letter| letter.document_id).collect::<Vec<_>>())
            .bind(letters.iter().map(|letter| letter.operation).collect::<Vec<_>>())
            .bind(letters.iter().map(|letter| letter.event).collect::<Vec<_>>())
            .bind(letters.iter().map(|letter| letter.code).collect::<Vec<_>>())
            .bind(letters.iter().map(|letter| letter.error).collect::<Vec<_>>())
            .bind(letters.iter().map(time).collect::<Vec<_>>())
            .bind(Some(redaction).filter(|redaction| !redaction.is_empty()));
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Some letters of a stream that were not made under this redaction: as many as are no larger
    /// than 4 MiB together, or one; none if there are none.
    pub async fn letters_of_other_redactions(
        &self,
        stream: &str,
        redaction: &[u8],
    ) -> Result<Vec<OldLetter>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select id, operation, event, redaction from (select id, operation, event, redaction, \
             sum(octet_length(event)) over (order by id) - octet_length(event) as before from \
             {}.dead_letter where stream = $1 and redaction is distinct from $2 order by id limit \
             1000) as d where before < 4194304 order by id",
            self.schema
        ));
        let query = sqlx::query_as(sql).bind(stream).bind(redaction);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Puts other evidence in the place of letters' events, with the mark of what hides the rest;
    /// but where somebody has done so since they were read, who may hide more.
    pub async fn rewrite_letters(
        &self,
        stream: &str,
        redaction: &[u8],
        letters: &[(OldLetter, Evidence)],
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.dead_letter as d set event = n.event, redaction = $2 from \
             unnest($3::bigint[], $4::bytea[], $5::bytea[]) as n (id, event, before) where d.id = \
             n.id and d.stream = $1 and d.redaction is not distinct from n.before",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(redaction)
            .bind(letters.iter().map(|(letter, _)| letter.id).collect::<Vec<_>>())
            .bind(letters.iter().map(|(_, evidence)| evidence.bytes()).collect::<Vec<_>>())
            .bind(letters.iter().map(|(letter, _)| letter.redaction.as_ref()).collect::<Vec<_>>());
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// How many dead letters are not resolved, by stream; those of the owner's streams.
    pub async fn open_letters(&self) -> Result<Vec<(String, i64)>, Fault> {
        let (schema, ours) = (&self.schema, stream::is_ours(&self.schema, "d.stream", 1));
        let sql = format!(
            "select stream, number from (select stream, count(*) as number from \
             {schema}.dead_letter where resolved_at is null group by stream) as d where {ours}"
        );
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql));
        let query = query.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }
}

/// Gives the rows of the stream in `$1` to the one in `$2`: it is called so now.
pub(super) fn renaming(schema: &str) -> String {
    format!("update {schema}.dead_letter set stream = $2 where stream = $1")
}

/// Of the rows `t`: those resolved before `$1`, of the owner in `$2` and `$3`.
pub(super) fn over(schema: &str) -> String {
    format!("t.resolved_at < $1 and {}", stream::is_ours(schema, "t.stream", 2))
}
