//! How streams come into a group: one transaction over the tables `stream` and `checkpoint`.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::stream::Member;
use super::{StateTables, checkpoint, lease, stream};
use crate::error::Fault;
use crate::postgres::with_deadline;

impl StateTables {
    /// Makes the rows of a group's streams where there are none, and takes into the group those
    /// that are in none, or in a group that nobody leads. One that is in a group that is led stays
    /// there until that group lets it go.
    pub(super) async fn enrol(
        &self,
        connection: &mut PgConnection,
        group: &str,
        database: &str,
        members: &[Member<'_>],
    ) -> Result<(), Fault> {
        let (schema, led) = (&self.schema, lease::is_led(&self.schema, "s"));
        let owner = self.target.owner();
        let names: Vec<&str> = members.iter().map(|member| member.stream).collect();
        // A leader of theirs that was frozen past its lease commits nothing any more.
        let fence = checkpoint::fencing_off(schema, &stream::are_of(schema, &led));
        let fence = sqlx::query(AssertSqlSafe(fence)).bind(&names).bind(group);
        let fence = fence.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, fence.execute(&mut *connection)).await?;
        let query = sqlx::query(AssertSqlSafe(stream::enrolling(schema, &led)))
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(group)
            .bind(database)
            .bind(names)
            .bind(members.iter().map(|member| member.collection).collect::<Vec<_>>());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }
}
