//! Whose a stream is. Only the service and environment that a stream is bound to look at it, ask
//! anything of it or lead it.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{StateTables, Verb, command, stream};
use crate::error::{Class, Code, Fault};
use crate::model::owner::Owner;
use crate::postgres::with_deadline;

impl StateTables {
    /// Refuses streams that another service or environment follows, unless it was asked that they
    /// be taken over. Does nothing where tidemark's own tables are not there yet, or of the first
    /// release.
    ///
    /// # Errors
    /// One of them belongs to another.
    pub async fn refuse_strangers(
        &self,
        connection: &mut PgConnection,
        streams: &[&str],
    ) -> Result<(), Fault> {
        let (schema, owner) = (&self.schema, self.target.owner());
        let deadline = self.deadline;
        let exists = sqlx::query_scalar::<_, bool>("select to_regclass($1) is not null")
            .bind(stream::name(schema));
        if !with_deadline(deadline, exists.fetch_one(&mut *connection)).await? {
            return Ok(());
        }
        let sql = stream::strangers(schema, &command::is_adopted(schema, "s.stream"));
        let query = sqlx::query_as::<_, (String, String, String)>(AssertSqlSafe(sql))
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

    /// [`StateTables::refuse_strangers`] on a session of the pool, for one that only looks or
    /// stands by.
    ///
    /// # Errors
    /// One of them belongs to another.
    pub async fn refuse_anothers(&self, streams: &[&str]) -> Result<(), Fault> {
        let mut connection = with_deadline(self.deadline, self.pool.acquire()).await?;
        self.refuse_strangers(&mut connection, streams).await
    }
}
