//! How streams come into a group: one transaction over the tables `stream` and `checkpoint`. A
//! stream that is called otherwise now takes with it what stands in other tables under its name.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{
    Configured, Member, StateTables, checkpoint, command, dead_letter, gap_report, lease, resync,
    stream, stream_position,
};
use crate::error::Fault;
use crate::postgres::with_deadline;

impl StateTables {
    /// Makes the rows of a group's streams where there are none, and takes into the group those
    /// that are in none, or in a group that nobody leads. One that is in a group that is led stays
    /// there until that group lets it go. The caller has locked the leases of all of these groups:
    /// one that is just being granted would look as if nobody led it, and be fenced off.
    pub(super) async fn enrol(
        &self,
        connection: &mut PgConnection,
        group: &str,
        database: &str,
        configured: &Configured<'_>,
    ) -> Result<(), Fault> {
        self.rename(connection, group, database, configured).await?;
        let members = configured.members;
        let (schema, led) = (&self.schema, lease::is_led(&self.schema, "s"));
        let owner = self.target.owner();
        let names: Vec<&str> = members.iter().map(|member| member.stream).collect();
        let not_led = format!("not {led}");
        // A leader of theirs that was frozen past its lease commits nothing any more.
        let fence = checkpoint::fencing_off(schema, &stream::are_in(schema, "c", 1, &not_led));
        let fence = sqlx::query(AssertSqlSafe(fence)).bind(&names).bind(group);
        let fence = fence.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, fence.execute(&mut *connection)).await?;
        // Where that group was, for this one to go on from.
        let whole = resync::is_whole(schema, "s.stream");
        let moved = stream::moving_to(schema, &checkpoint::rows(schema), &led, &whole);
        let remember = stream_position::remembering(schema, &moved);
        let remember = sqlx::query(AssertSqlSafe(remember)).bind(&names).bind(group);
        let remember = remember.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, remember.execute(&mut *connection)).await?;
        let query = sqlx::query(AssertSqlSafe(stream::enrolling(schema, &led)))
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(group)
            .bind(database)
            .bind(names)
            .bind(members.iter().map(|member| member.collection).collect::<Vec<_>>());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// A stream of the group with the same collection and table as one that is configured no more
    /// is that one, under a new name.
    async fn rename(
        &self,
        connection: &mut PgConnection,
        group: &str,
        database: &str,
        configured: &Configured<'_>,
    ) -> Result<(), Fault> {
        let (schema, owner) = (&self.schema, self.target.owner());
        let of = |part: fn(&Member<'_>) -> String| {
            configured.members.iter().map(part).collect::<Vec<_>>()
        };
        let renamed = sqlx::query_as::<_, (String, String)>(AssertSqlSafe(stream::renamed(schema)))
            .bind(group)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(database)
            .bind(configured.names)
            .bind(of(|member| member.stream.to_owned()))
            .bind(of(|member| member.collection.to_owned()))
            .bind(of(|member| member.table.schema.clone()))
            .bind(of(|member| member.table.name.clone()));
        let renamed = renamed.fetch_all(&mut *connection);
        for (before, now) in with_deadline(self.deadline, renamed).await? {
            tracing::info!(stream = now, "the stream was called {before} before");
            for table in [
                stream::renaming(schema),
                resync::renaming(schema),
                dead_letter::renaming(schema),
                gap_report::renaming(schema),
                command::renaming(schema),
            ] {
                let query = sqlx::query(AssertSqlSafe(table)).bind(&before).bind(&now);
                with_deadline(self.deadline, query.execute(&mut *connection)).await?;
            }
        }
        Ok(())
    }
}
