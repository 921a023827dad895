//! Whose a table is: of all groups of a service one writes it. Who comes to it waits until the
//! stream that it is written for has let it go.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{BoundTo, StateTables, lease, stream};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::postgres::with_deadline;

impl StateTables {
    /// Another stream that one of these tables is written for, and its group, which is led and not
    /// this one.
    pub async fn table_holder(
        &self,
        connection: &mut PgConnection,
        (group, stream): (&str, &str),
        tables: &[Table],
    ) -> Result<Option<(String, String)>, Fault> {
        let owner = self.target.owner();
        let sql = stream::holding(&self.schema, &lease::is_led(&self.schema, "s"));
        let of = |part: fn(&Table) -> String| tables.iter().map(part).collect::<Vec<_>>();
        let query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(stream)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(group)
            .bind(of(Table::sql))
            .bind(of(|table| table.schema.clone()))
            .bind(of(|table| table.name.clone()));
        with_deadline(self.deadline, query.fetch_optional(connection)).await
    }

    /// Makes sure, before these streams are bound to their tables, that no other group has come to
    /// write one of them since that was looked at, or does before the caller's transaction ends.
    ///
    /// # Errors
    /// One has; what to do about it is to be decided anew.
    pub(super) async fn refuse_held(
        &self,
        connection: &mut PgConnection,
        group: &str,
        bound: &[(&str, &BoundTo<'_>)],
    ) -> Result<(), Fault> {
        let (schema, owner, deadline) = (&self.schema, self.target.owner(), self.deadline);
        let streams: Vec<&str> = bound.iter().map(|(stream, _)| *stream).collect();
        let of = |part: fn(&Table) -> String| {
            bound.iter().map(|(_, bound)| part(bound.table)).collect::<Vec<_>>()
        };
        let others = sqlx::query_scalar::<_, String>(AssertSqlSafe(stream::of_tables(schema)))
            .bind(&streams)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(of(Table::sql))
            .bind(of(|table| table.schema.clone()))
            .bind(of(|table| table.name.clone()));
        let others = with_deadline(deadline, others.fetch_all(&mut *connection)).await?;
        if others.is_empty() {
            return Ok(());
        }
        let keep = sqlx::query(AssertSqlSafe(lease::keeping(schema))).bind(&others);
        with_deadline(deadline, keep.execute(&mut *connection)).await?;
        let lock = stream::locking_held(schema, &lease::is_led(schema, "s"));
        let lock = sqlx::query_as::<_, (String, String, bool)>(AssertSqlSafe(lock));
        let lock = lock.bind(&streams).bind(&others).bind(group);
        let locked = with_deadline(deadline, lock.fetch_all(connection)).await?;
        match locked.into_iter().find(|(_, _, holds)| *holds) {
            None => Ok(()),
            Some((stream, group, _)) => {
                let message =
                    format!("a table is written for stream {stream} of group {group} by now");
                Err(Fault::new(Class::Transient, Code::StreamParked, message, ""))
            }
        }
    }
}
