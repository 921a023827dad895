//! The rows that a walk did not see: outside its segments of the table, not among its ids, and not
//! met by the live stream meanwhile.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryScalar;
use sqlx::{AssertSqlSafe, Postgres};

use super::{StateTables, resync_kept, resync_seen};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::postgres::with_deadline;

/// The rows a walk left over: what lies outside its segments, is not among the ids that it or the
/// live stream met, and is older than its start, or stamped with no time that the source can have
/// told.
///
/// A row that came into a segment after it was found is newer than the walk's start.
#[derive(Debug)]
pub struct Unseen {
    resync: i64,
    older_than: i64,
    newer_than: i64,
    /// The statement's `from`, with these parameters after the three above.
    from: String,
    above: Vec<String>,
    below: Vec<String>,
    /// The first segment's beginning and the last one's end; `None` without any.
    edges: Option<(String, String)>,
}

impl StateTables {
    /// Finds out where rows may lie that a walk did not see; `living` is the table's rows of
    /// documents that there are, as something to select from.
    pub async fn unseen(
        &self,
        connection: &mut PgConnection,
        living: &str,
        resync: i64,
        start: ClusterTime,
        now: ClusterTime,
    ) -> Result<Unseen, Fault> {
        let schema = &self.schema;
        let segments = resync_seen::segments(schema);
        // The part without rows is there for its collation: by it the segments are sorted as the
        // table sorts its own ids.
        let gaps = AssertSqlSafe(format!(
            "with segment (low, high) as materialized (select t.id, t.id from {living} as t where \
             false union all {segments}), gap (above, below) as (select \
             max(high) over (order by low), lead(low) over (order by low) from segment union all \
             select null, min(low) from segment) select above, below from gap where above is null \
             or below is null or above < below"
        ));
        let query = sqlx::query_as::<_, (Option<String>, Option<String>)>(gaps).bind(resync);
        let (mut above, mut below, mut lowest, mut highest) = (Vec::new(), Vec::new(), None, None);
        for gap in with_deadline(self.deadline, query.fetch_all(connection)).await? {
            match gap {
                (Some(from), Some(to)) => {
                    above.push(from);
                    below.push(to);
                }
                (Some(from), None) => highest = Some(from),
                (None, to) => lowest = to,
            }
        }
        let edges = lowest.zip(highest);
        let row = "t.id, t._cluster_time";
        let old = "((t._cluster_time < $1) is not false or t._cluster_time > $3)";
        let candidates = if edges.is_some() {
            format!(
                "select {row} from unnest($4::text[], $5::text[]) as gap (above, below), lateral \
                 (select {row} from {living} as t where t.id > gap.above and t.id < gap.below and \
                 {old}) as t union all select {row} from {living} as t where t.id < $6 and {old} \
                 union all select {row} from {living} as t where t.id > $7 and {old}"
            )
        } else {
            format!("select {row} from {living} as t where {old}")
        };
        let (seen, kept) =
            (resync_seen::is_seen(schema, "c.id"), resync_kept::is_kept(schema, "c.id"));
        let from = format!("from ({candidates}) as c where not {seen} and not {kept}");
        let (older_than, newer_than) = (start.to_sql(), now.ahead_max().to_sql());
        Ok(Unseen { resync, older_than, newer_than, from, above, below, edges })
    }
}

impl Unseen {
    /// Settings of the session that asks: a table just filled has no statistics, and without them
    /// the planner takes the few rows between segments for a third of the table.
    pub const fn planning(&self) -> &'static str {
        match self.edges {
            Some(_) => "set max_parallel_workers_per_gather = 0; set enable_seqscan = off",
            None => "set max_parallel_workers_per_gather = 0",
        }
    }

    /// Counts the rows left over.
    pub fn count(&self) -> QueryScalar<'_, Postgres, i64, PgArguments> {
        self.bind(sqlx::query_scalar(AssertSqlSafe(format!("select count(*) {}", self.from))))
    }

    /// The ids of the rows left over, each with its row's cluster time.
    pub fn rows(&self) -> QueryScalar<'_, Postgres, (String, i64), PgArguments> {
        let row = "select (c.id, coalesce(c._cluster_time, 0))";
        self.bind(sqlx::query_scalar(AssertSqlSafe(format!("{row} {}", self.from))))
    }

    fn bind<'q, T>(
        &'q self,
        query: QueryScalar<'q, Postgres, T, PgArguments>,
    ) -> QueryScalar<'q, Postgres, T, PgArguments> {
        let query = query.bind(self.older_than).bind(self.resync).bind(self.newer_than);
        match &self.edges {
            Some((lowest, highest)) => {
                query.bind(&self.above).bind(&self.below).bind(lowest).bind(highest)
            }
            None => query,
        }
    }
}
