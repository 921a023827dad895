//! The table `outbox`: what each channel has still to be told of an incident, and how far it has
//! got.

use sqlx::AssertSqlSafe;
use sqlx::types::Json;

use super::life::{Delivery, Incident};
use super::{DEADLINE, Store};
use crate::error::Fault;
use crate::postgres::with_deadline;

impl Store {
    /// Adds to incidents how far each of the channels has got.
    pub(super) async fn load_deliveries(
        &self,
        incidents: &mut [Incident],
        channels: &[&'static str],
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "select incident_id, channel, told, version, state from {}.outbox where incident_id = \
             any($1)",
            self.schema
        ));
        let ids: Vec<i64> = incidents.iter().filter_map(|incident| incident.id).collect();
        let query = sqlx::query_as::<_, (i64, String, i32, i32, Json<Delivery>)>(sql).bind(ids);
        for (id, channel, told, version, Json(state)) in
            with_deadline(DEADLINE, query.fetch_all(self.pool())).await?
        {
            let known = channels.iter().find(|name| **name == channel);
            if let Some((incident, channel)) =
                incidents.iter_mut().find(|i| i.id == Some(id)).zip(known)
            {
                let (told, version) = (told.unsigned_abs(), version.unsigned_abs());
                incident.deliveries.insert(channel, Delivery { told, version, ..state });
            }
        }
        Ok(())
    }

    /// Writes down how far the channels have got, unless something newer is there.
    pub(super) async fn write_deliveries(&self, incident: &Incident) -> Result<(), Fault> {
        let Some(id) = incident.id else { return Ok(()) };
        let sql = AssertSqlSafe(format!(
            "insert into {}.outbox as o (incident_id, channel, pending, told, version, state) \
             select $1, * from unnest($2::text[], $3::boolean[], $4::integer[], $5::integer[], \
             $6::jsonb[]) on conflict (incident_id, channel) do update set pending = \
             excluded.pending, told = excluded.told, version = excluded.version, state = \
             excluded.state where o.version <= excluded.version",
            self.schema
        ));
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let (mut names, mut pending) = (Vec::new(), Vec::new());
        let (mut told, mut versions, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for (channel, delivery) in &incident.deliveries {
            names.push(*channel);
            pending.push(delivery.is_pending(incident));
            told.push(number(delivery.told));
            versions.push(number(delivery.version));
            states.push(Json(delivery));
        }
        let query = sqlx::query(sql)
            .bind(id)
            .bind(names)
            .bind(pending)
            .bind(told)
            .bind(versions)
            .bind(states);
        with_deadline(DEADLINE, query.execute(self.pool())).await.map(drop)
    }
}

/// Whether a channel for which `which` holds, named `o.channel`, has still to be told of an
/// incident.
pub(super) fn is_pending(schema: &str, incident: &str, which: &str) -> String {
    format!(
        "exists (select from {schema}.outbox as o where o.incident_id = {incident} and o.pending \
         and {which})"
    )
}

/// The versions of an incident's deliveries, summed.
pub(super) fn versions(schema: &str, incident: &str) -> String {
    format!(
        "(select coalesce(sum(version), 0) from {schema}.outbox o where o.incident_id = {incident})"
    )
}
