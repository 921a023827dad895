//! What `check` says of the wire to each end: as it is, and what of it is verified.

use sqlx::PgConnection;

use super::finding::Finding;
use crate::postgres::{Target, guarded, with_deadline};
use crate::settings::Settings;
use crate::source::Source;

/// The wire to Postgres, as the server has it.
pub(super) async fn target(
    connection: &mut PgConnection,
    target: &Target,
    settings: &Settings,
) -> Finding {
    let sql = "select coalesce(version || ', ' || cipher, '') from pg_catalog.pg_stat_ssl \
               where pid = pg_catalog.pg_backend_pid() and ssl";
    let told = with_deadline(
        target.deadline(),
        sqlx::query_scalar::<_, String>(sql).fetch_optional(connection),
    )
    .await;
    let verified = guarded(settings);
    let found = told.and_then(|wire| {
        let wire = wire.unwrap_or_else(|| "no TLS".to_owned());
        verified.map(|verified| format!("{wire}; {verified}"))
    });
    Finding::of("target's wire", found)
}

/// The wire to MongoDB: the driver tells no version and no cipher, but takes no wire that is not as
/// asked for.
pub(super) fn source(source: &Source) -> Vec<Finding> {
    let idle = source
        .idle_options()
        .iter()
        .map(|idle| Finding::ok("source.uri", format!("without effect: {idle}")));
    std::iter::once(Finding::ok("source's wire", source.guarded())).chain(idle).collect()
}
