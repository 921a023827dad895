//! What a stream's position speaks for, remembered beside it: a position is only a time, and a time
//! fits any cluster, any collection of that name, any table.
//!
//! Written in the transactions that write the position. Of the table it remembers a *witness*: the
//! newest row tidemark wrote, as far as it knows. A table without it is not the one the position
//! speaks for: it was emptied, replaced, or restored from an older backup.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, FromRow};
use uuid::Uuid;

use super::{Checkpoints, Fence, Lease, Verb};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::model::owner::Owner;
use crate::model::position::Position;
use crate::postgres::{Target, close, with_deadline};

/// The row of a stream.
#[derive(Debug, Clone, FromRow, PartialEq, Eq)]
pub struct Binding {
    pub service: String,
    pub environment: String,
    /// The replica set's id; `None` where the source did not tell it.
    pub cluster: Option<String>,
    /// `None` if there was no collection, or the source did not tell it.
    pub collection_uuid: Option<Uuid>,
    /// The cluster time of the position the stream began at, or was moved back to: it need be no
    /// entry of the oplog.
    pub begun_time: Option<i64>,
    pub table_schema: String,
    pub table_name: String,
    pub table_oid: i64,
    pub witness_id: Option<String>,
    pub witness_time: Option<i64>,
}

/// What a position is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    pub cluster: Option<&'a str>,
    pub collection_uuid: Option<Uuid>,
    pub table: &'a Table,
}

/// The followed table as it is.
#[derive(Debug, Clone, Copy, FromRow, PartialEq, Eq)]
pub struct TableNow {
    pub oid: i64,
    /// The `_cluster_time` of the witness; `None` if it is not there.
    pub witness_time: Option<i64>,
    pub holds_rows: bool,
}

/// The rows a transaction wrote and deleted, as far as the witness is concerned.
#[derive(Debug, Default)]
pub struct Touched<'a> {
    /// The table's name for SQL.
    pub table: &'a str,
    /// A few of those written last; empty leaves the witness as it is.
    pub written: Vec<&'a str>,
    pub deleted: &'a [String],
}

impl Checkpoints {
    /// What a stream is bound to; `None` if it never was, as under the first release.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn binding(&self, stream: &str) -> Result<Option<Binding>, Fault> {
        let sql =
            AssertSqlSafe(format!("select * from {}.stream where stream = $1", self.schema()));
        with_deadline(
            self.target.deadline(),
            sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool),
        )
        .await
    }

    /// The followed table as it is now.
    ///
    /// # Errors
    /// There is none; or whatever Postgres answers.
    pub async fn table_now(&self, table: &Table, witness: Option<&str>) -> Result<TableNow, Fault> {
        let name = table.sql();
        let sql = AssertSqlSafe(format!(
            "select $1::regclass::oid::bigint as oid, (select coalesce(t._cluster_time, 0) from \
             {name} as t where t.id = $2) as witness_time, exists (select from {name}) as \
             holds_rows"
        ));
        let query = sqlx::query_as(sql).bind(&name).bind(witness);
        with_deadline(self.target.deadline(), query.fetch_one(&self.pool)).await
    }

    /// Binds a stream anew, its position as it is.
    ///
    /// # Errors
    /// Fenced, or whatever Postgres answers.
    pub async fn bind(&self, lease: &Lease, bound: &Bound<'_>) -> Result<(), Fault> {
        let deadline = self.target.deadline();
        let mut connection = self.target.connect().await?;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        Fence::raise(&mut transaction, &self.target, self, lease).await?;
        self.bind_in(&mut transaction, lease.stream(), bound, None).await?;
        with_deadline(deadline, transaction.commit()).await?;
        close(connection).await;
        Ok(())
    }

    /// The same in a transaction that begins at `begun`, if it begins anew.
    pub(super) async fn bind_in(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        bound: &Bound<'_>,
        begun: Option<&Position>,
    ) -> Result<(), Fault> {
        let (schema, table) = (self.schema(), bound.table.sql());
        let sql = AssertSqlSafe(format!(
            "insert into {schema}.stream as s (stream, service, environment, cluster, \
             collection_uuid, begun_time, table_schema, table_name, table_oid, witness_id, \
             witness_time) select $1, $2, $3, $4, $5, $6, $7, $8, $9::regclass::oid::bigint, w.id, \
             w.time from (select 1) as one left join (select t.id, coalesce(t._cluster_time, 0) as \
             time from {table} as t order by t.id limit 1) as w on true on conflict (stream) do \
             update set service = excluded.service, environment = excluded.environment, cluster = \
             excluded.cluster, collection_uuid = excluded.collection_uuid, begun_time = \
             coalesce(excluded.begun_time, s.begun_time), table_schema = excluded.table_schema, \
             table_name = excluded.table_name, table_oid = excluded.table_oid, witness_id = \
             excluded.witness_id, witness_time = excluded.witness_time"
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(bound.cluster)
            .bind(bound.collection_uuid)
            .bind(begun.map(|position| position.cluster_time.to_sql()))
            .bind(&bound.table.schema)
            .bind(&bound.table.name)
            .bind(&table);
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }

    /// The position goes back to one whose time need be no entry of the oplog.
    pub(super) async fn begin_at(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        position: &Position,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.stream set begun_time = $2 where stream = $1",
            self.schema()
        ));
        let query = sqlx::query(sql).bind(stream).bind(position.cluster_time.to_sql());
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }

    /// Of rows that name a stream: those that are no other service's or environment's. Takes the
    /// owner as two parameters from the `first` on.
    pub(super) fn not_anothers(&self, stream: &str, first: usize) -> String {
        format!(
            "not exists (select from {}.stream as whose where whose.stream = {stream} \
             and (whose.service, whose.environment) is distinct from (${first}, ${}))",
            self.schema(),
            first + 1
        )
    }

    /// [`Checkpoints::refuse_strangers`] for who only looks.
    ///
    /// # Errors
    /// One of them belongs to another; or whatever Postgres answers.
    pub async fn refuse_anothers(&self, streams: &[&str]) -> Result<(), Fault> {
        let mut connection = with_deadline(self.target.deadline(), self.pool.acquire()).await?;
        self.refuse_strangers(&mut connection, streams).await
    }

    /// Refuses streams that another service or environment follows, unless it was asked that they
    /// be taken over. Does nothing where tidemark's own tables are not there yet, or of the first
    /// release.
    ///
    /// # Errors
    /// One of them belongs to another; or whatever Postgres answers.
    pub async fn refuse_strangers(
        &self,
        connection: &mut PgConnection,
        streams: &[&str],
    ) -> Result<(), Fault> {
        let (schema, owner) = (self.schema(), self.target.owner());
        let deadline = self.target.deadline();
        let exists = sqlx::query_scalar::<_, bool>("select to_regclass($1) is not null")
            .bind(format!("{schema}.stream"));
        if !with_deadline(deadline, exists.fetch_one(&mut *connection)).await? {
            return Ok(());
        }
        let sql = AssertSqlSafe(format!(
            "select s.stream, s.service, s.environment from {schema}.stream as s where s.stream = \
             any($1) and (s.service, s.environment) is distinct from ($2, $3) and not exists \
             (select from {schema}.command as c where c.stream = s.stream and c.verb = $4 and \
             c.done_at is null and c.arguments ->> 'service' = $2 and c.arguments ->> \
             'environment' = $3) order by s.stream limit 1"
        ));
        let query = sqlx::query_as::<_, (String, String, String)>(sql)
            .bind(streams)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(Verb::SourceAdopt.name());
        match with_deadline(deadline, query.fetch_optional(connection)).await? {
            None => Ok(()),
            Some((stream, service, environment)) => {
                let bound = Owner { service, environment };
                let message = format!("stream {stream} belongs to {bound}, and this is {owner}");
                let hint = "point target.url or target.state_schema at this environment's own \
                            tables; if these are to change hands: `tidemark source adopt STREAM \
                            --reason TEXT --execute`";
                Err(Fault::new(Class::Halt, Code::SourceForeign, message, hint))
            }
        }
    }

    /// The same of one stream, for who stands by for it.
    ///
    /// # Errors
    /// As [`Checkpoints::refuse_strangers`].
    pub async fn refuse_stranger(&self, stream: &str) -> Result<(), Fault> {
        let mut connection = with_deadline(self.target.deadline(), self.pool.acquire()).await?;
        self.refuse_strangers(&mut connection, &[stream]).await
    }

    /// Refuses a table that a stream of another service or environment is bound to: nothing is
    /// added to it.
    ///
    /// # Errors
    /// It is such a one; or whatever Postgres answers.
    pub async fn refuse_table(
        &self,
        connection: &mut PgConnection,
        table: &Table,
    ) -> Result<(), Fault> {
        let owner = self.target.owner();
        let sql = AssertSqlSafe(format!(
            "select s.stream, s.service, s.environment from {}.stream as s where s.table_oid = \
             to_regclass($1)::oid::bigint and (s.service, s.environment) is distinct from ($2, $3) \
             order by s.stream limit 1",
            self.schema()
        ));
        let query = sqlx::query_as::<_, (String, String, String)>(sql)
            .bind(table.sql())
            .bind(&owner.service)
            .bind(&owner.environment);
        match with_deadline(self.target.deadline(), query.fetch_optional(connection)).await? {
            None => Ok(()),
            Some((stream, service, environment)) => {
                let bound = Owner { service, environment };
                let message = format!(
                    "table {table} is followed into by stream {stream} of {bound}, and this is \
                     {owner}"
                );
                let hint = "name another table in [[stream]]; if that stream is over, delete its \
                            row from the table `stream` of the state schema";
                Err(Fault::new(Class::Halt, Code::SourceForeign, message, hint))
            }
        }
    }
}

impl Fence<'_> {
    /// Moves the position, or leaves it and counts the advance alone; and looks, in the same
    /// statement, whether the table still has its witness, which becomes the newest of the rows
    /// written.
    ///
    /// # Errors
    /// Fenced; the table is not what it was; or whatever Postgres answers.
    pub async fn advance_over(
        &self,
        connection: &mut PgConnection,
        target: &Target,
        position: Option<&Position>,
        touched: &Touched<'_>,
    ) -> Result<(), Fault> {
        let moves = !touched.written.is_empty() || !touched.deleted.is_empty();
        let sql = if moves {
            self.looking_and_moving(touched.table)
        } else {
            self.looking(touched.table)
        };
        let query = sqlx::query_as::<_, (bool, bool)>(AssertSqlSafe(sql));
        let mut query = self.bind(query, position);
        if moves {
            query = query.bind(&touched.written).bind(touched.deleted);
        }
        let advanced =
            with_deadline(target.deadline(), query.fetch_optional(&mut *connection)).await?;
        let (stands, witnessed) = advanced.ok_or_else(|| Fault::fenced(self.lease.stream()))?;
        if !stands {
            let message =
                "rows that tidemark wrote are gone from the table, or older than they were";
            let hint = "find out who empties or restores the table";
            return Err(Fault::new(Class::HistoryLost, Code::HistoryLost, message, hint));
        }
        if witnessed { Ok(()) } else { self.find_witness(connection, target, touched.table).await }
    }

    /// Whether the witness is there, and whether there is one. A stream that is not bound has none.
    fn looking(&self, table: &str) -> String {
        let (advance, schema) = (self.advancing(), &self.schema);
        format!(
            "with moved as ({advance} returning 1) select s.witness_id is null or exists \
             (select from {table} as t where t.id = s.witness_id \
             and coalesce(t._cluster_time, 0) >= s.witness_time), \
             s.witness_id is not null from moved left join {schema}.stream as s on s.stream = \
             $1"
        )
    }

    /// The same; and the newest of these rows becomes the witness. The one before may have been
    /// deleted here.
    fn looking_and_moving(&self, table: &str) -> String {
        let (advance, schema) = (self.advancing(), &self.schema);
        format!(
            "with moved as ({advance} returning 1), noted as (update {schema}.stream as s set \
             (witness_id, witness_time) = (select t.id, coalesce(t._cluster_time, 0) from {table} \
             as t where t.id = any(array_append($7::text[], s.witness_id)) order by 2 desc limit \
             1) from {schema}.stream as b where s.stream = $1 and b.stream = s.stream returning \
             b.witness_id is null or b.witness_id = any($8) or exists (select from {table} as t \
             where t.id = b.witness_id and coalesce(t._cluster_time, 0) >= b.witness_time) as \
             stands, s.witness_id is not null as witnessed) select coalesce(noted.stands, true), \
             coalesce(noted.witnessed, false) from moved left join noted on true"
        )
    }

    /// Any row that is there.
    async fn find_witness(
        &self,
        connection: &mut PgConnection,
        target: &Target,
        table: &str,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.stream set witness_id = t.id, witness_time = t.time from (select id, \
             coalesce(_cluster_time, 0) as time from {table} order by id limit 1) as t where \
             stream = $1",
            self.schema
        ));
        let query = sqlx::query(sql).bind(self.lease.stream());
        with_deadline(target.deadline(), query.execute(connection)).await.map(drop)
    }
}
