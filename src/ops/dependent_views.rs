//! Views of a table's columns: they stand in the way of whoever drops one of these.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;

use crate::model::namespace::{Table, quote};
use crate::postgres::{Target, with_deadline};

/// The views of each column, in SQL that drops them.
#[derive(Debug, Default)]
pub struct DependentViews(BTreeMap<String, BTreeSet<String>>);

impl DependentViews {
    /// Those of a table. None where that cannot be told: Postgres then names them.
    pub async fn of(connection: &mut PgConnection, target: &Target, table: &Table) -> Self {
        let query = sqlx::query_as::<_, (String, String, String, bool)>(
            "select a.attname::text, n.nspname::text, v.relname::text, v.relkind = 'm' from \
             pg_attribute as a join pg_depend as d on d.refclassid = 'pg_class'::regclass and \
             d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.classid = \
             'pg_rewrite'::regclass join pg_rewrite as r on r.oid = d.objid join pg_class as v on \
             v.oid = r.ev_class and v.oid <> a.attrelid join pg_namespace as n on n.oid = \
             v.relnamespace where a.attrelid = to_regclass($1)",
        );
        let query = query.bind(table.sql()).fetch_all(connection);
        let mut views = BTreeMap::<String, BTreeSet<String>>::new();
        let found = with_deadline(target.deadline(), query).await.unwrap_or_default();
        for (column, schema, name, is_materialized) in found {
            let what = if is_materialized { "materialized view" } else { "view" };
            let view = Table { schema, name }.sql();
            views.entry(column).or_default().insert(format!("drop {what} {view}; "));
        }
        Self(views)
    }

    /// SQL that drops columns of the table, and first whatever views show one of them.
    pub fn drop_columns(&self, table: &Table, columns: &[&str]) -> String {
        let views = columns.iter().filter_map(|column| self.0.get(*column)).flatten();
        let views: String = views.collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let drops = columns.iter().map(|column| format!("drop column {}", quote(column)));
        let drops: Vec<String> = drops.collect();
        format!("{views}alter table {} {};", table.sql(), drops.join(", "))
    }
}
