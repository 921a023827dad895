//! Whether Postgres lets the process have as many connections as it may open.

use sqlx::postgres::PgConnection;

use super::finding::Finding;
use crate::error::{Class, Code, Fault};
use crate::postgres::{Target, with_deadline};
use crate::settings::Settings;

/// What stands for no limit of a role or a database.
const UNLIMITED: i32 = -1;

/// Limits of one server, role and database, and how many connections are in use.
type Limits = (i32, i32, i32, i64);

pub(super) async fn connections(
    connection: &mut PgConnection,
    target: &Target,
    settings: &Settings,
    role: &str,
) -> Finding {
    let query = sqlx::query_as::<_, Limits>(
        "select current_setting('max_connections')::int - \
         current_setting('superuser_reserved_connections')::int - \
         coalesce(current_setting('reserved_connections', true)::int, 0), r.rolconnlimit, \
         d.datconnlimit, (select count(*) from pg_stat_activity where backend_type = 'client \
         backend') from pg_roles r, pg_database d where r.rolname = $1 and d.datname = \
         current_database()",
    )
    .bind(role);
    let limits = with_deadline(target.deadline(), query.fetch_one(connection)).await;
    Finding::of("connections", limits.and_then(|limits| judge(settings, limits)))
}

fn judge(settings: &Settings, (server, role, database, used): Limits) -> Result<String, Fault> {
    let wanted = settings.target.connections_max;
    let limits = [
        (server, "max_connections, without what is reserved"),
        (role, "the role's connection limit"),
        (database, "the database's connection limit"),
    ];
    let limits = limits.into_iter().filter(|(limit, _)| *limit != UNLIMITED);
    let Some((least, whose)) = limits.min_by_key(|(limit, _)| *limit) else {
        return Ok(format!("up to {wanted}, of which Postgres limits none"));
    };
    let allowed = usize::try_from(least).unwrap_or_default();
    if wanted <= allowed {
        return Ok(format!("up to {wanted} of {allowed} ({whose}); {used} in use by all"));
    }
    let message = format!("up to {wanted} may be opened, and {allowed} are allowed ({whose})");
    let hint = "lower target.connections_max (one a group and four are needed), or raise that";
    Err(Fault::new(Class::Halt, Code::TargetUnauthorised, message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Origin;

    #[test]
    fn the_narrowest_limit_decides_and_is_named() {
        let settings = Settings::load(&Origin::default()).unwrap();
        let wanted = settings.target.connections_max;
        assert_eq!(wanted, 12);
        let of = |limits| judge(&settings, limits).map_err(|fault| fault.message);
        assert!(of((97, -1, -1, 5)).unwrap().contains("12 of 97"));
        assert!(of((97, 12, -1, 5)).unwrap().contains("12 of 12 (the role's"));
        assert!(of((97, 40, 11, 5)).unwrap_err().contains("11 are allowed (the database's"));
        assert!(of((8, -1, -1, 5)).unwrap_err().contains("8 are allowed (max_connections"));
    }
}
