//! How streams come into a group: one transaction over the tables `stream` and `checkpoint`. A
//! stream that is called otherwise now takes with it what stands in other tables under its name.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{
    Configured, Member, StateTables, checkpoint, command, dead_letter, gap_report, lease, resync,
    stream, stream_position,
};
use crate::error::Fault;
use crate::postgres::with_deadline;

/// A stream that is configured no more, the one that is written into its table now, and whether
/// these are the same.
type FollowedOn = (String, String, bool);

impl StateTables {
    /// Locks the leases of a group and of those that its streams, and those that were in their
    /// place before, are still in.
    pub(super) async fn lock_for_enrolment(
        &self,
        connection: &mut PgConnection,
        group: &str,
        database: &str,
        configured: &Configured<'_>,
    ) -> Result<(), Fault> {
        let before = self.followed_on(connection, group, database, configured, "true").await?;
        self.lock_leases(connection, group, &with(configured, &before)).await
    }

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
        let members = configured.members;
        let (schema, led) = (&self.schema, lease::is_led(&self.schema, "s"));
        let owner = self.target.owner();
        let names: Vec<&str> = members.iter().map(|member| member.stream).collect();
        let not_led = format!("not {led}");
        // A leader of theirs that was frozen past its lease commits nothing any more.
        let fence = checkpoint::fencing_off(schema, &stream::are_in(schema, "c", 1, &not_led));
        let before = self.followed_on(connection, group, database, configured, &not_led).await?;
        let fence = sqlx::query(AssertSqlSafe(fence)).bind(with(configured, &before)).bind(group);
        let fence = fence.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, fence.execute(&mut *connection)).await?;
        self.follow_on(connection, &before).await?;
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

    /// Streams that are configured no more, of this group and of others for which `and` holds, in
    /// whose place there are others now.
    async fn followed_on(
        &self,
        connection: &mut PgConnection,
        group: &str,
        database: &str,
        configured: &Configured<'_>,
        and: &str,
    ) -> Result<Vec<FollowedOn>, Fault> {
        let owner = self.target.owner();
        let of = |part: fn(&Member<'_>) -> String| {
            configured.members.iter().map(part).collect::<Vec<_>>()
        };
        let query = sqlx::query_as(AssertSqlSafe(stream::followed_on(&self.schema, and)))
            .bind(group)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(database)
            .bind(configured.names)
            .bind(of(|member| member.stream.to_owned()))
            .bind(of(|member| member.collection.to_owned()))
            .bind(of(|member| member.table.schema.clone()))
            .bind(of(|member| member.table.name.clone()));
        with_deadline(self.deadline, query.fetch_all(connection)).await
    }

    /// A stream with the same collection and table as one that is configured no more is that one,
    /// under a new name. One that is of another collection has the table to itself.
    async fn follow_on(
        &self,
        connection: &mut PgConnection,
        before: &[FollowedOn],
    ) -> Result<(), Fault> {
        let (schema, mut renamed) = (&self.schema, BTreeSet::new());
        for (before, now, is_same) in before {
            if !is_same || !renamed.insert(now) {
                let leave = sqlx::query(AssertSqlSafe(stream::letting_go(schema))).bind([before]);
                with_deadline(self.deadline, leave.execute(&mut *connection)).await?;
                continue;
            }
            tracing::info!(stream = now, "the stream was called {before} before");
            let unmake = sqlx::query(AssertSqlSafe(stream::unmaking(schema))).bind(now);
            with_deadline(self.deadline, unmake.execute(&mut *connection)).await?;
            for table in [
                stream::renaming(schema),
                stream_position::renaming(schema),
                resync::renaming(schema),
                dead_letter::renaming(schema),
                gap_report::renaming(schema),
                command::renaming(schema),
            ] {
                let query = sqlx::query(AssertSqlSafe(table)).bind(before).bind(now);
                with_deadline(self.deadline, query.execute(&mut *connection)).await?;
            }
        }
        Ok(())
    }
}

/// The names of a group's streams, and of those that were in their place before.
fn with<'n>(configured: &Configured<'n>, before: &'n [FollowedOn]) -> Vec<&'n str> {
    let members = configured.members.iter().map(|member| member.stream);
    members.chain(before.iter().map(|(before, ..)| before.as_str())).collect()
}
