//! A Postgres that goes back: a primary and an asynchronous hot standby behind one address.
//!
//! The address is a proxy's, as a service name in front of a managed database would be. A standby
//! that has not heard of the last commits takes the address over, and these commits are gone,
//! though they were acknowledged.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{Postgres, PostgresOptions, Proxy, Result};

/// What hears nothing of the primary any more; `-R` of `pg_basebackup` wrote what this replaces.
const DEAF: &str = "alter system set primary_conninfo = ''";

pub struct Failover {
    proxy: Proxy,
    primary: Postgres,
    standby: Option<Postgres>,
}

impl Failover {
    pub fn start(options: &PostgresOptions) -> Result<Self> {
        let primary = Postgres::start(options)?;
        let proxy = Proxy::to(primary.port())?;
        let standby = Some(primary.standby()?);
        Ok(Self { proxy, primary, standby })
    }

    /// The address both servers are reached at in turn.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The server the address leads to.
    pub fn primary(&mut self) -> &mut Postgres {
        &mut self.primary
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://tidemark@127.0.0.1:{}/{database}", self.proxy.port())
    }

    /// Waits until the standby shows all that is committed now.
    pub async fn caught_up(&self) -> Result<()> {
        let mut primary = self.primary.connect("postgres").await?;
        let now = "select pg_current_wal_flush_lsn()::text";
        let now: String = sqlx::query_scalar(now).fetch_one(&mut primary).await?;
        let mut standby = self.follower()?.connect("postgres").await?;
        let heard = "select pg_last_wal_replay_lsn() >= $1::pg_lsn";
        let deadline = Instant::now() + Duration::from_secs(60);
        while !sqlx::query_scalar::<_, bool>(heard).bind(&now).fetch_one(&mut standby).await? {
            if Instant::now() > deadline {
                return Err("the standby did not catch up within a minute".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// From here on the standby hears of no commit. (Pausing its replay would not do: what it has
    /// received it replays before it is promoted.)
    pub async fn cut_off(&self) -> Result<()> {
        let mut standby = self.follower()?.connect("postgres").await?;
        sqlx::raw_sql(DEAF).execute(&mut standby).await?;
        sqlx::raw_sql("select pg_reload_conf()").execute(&mut standby).await?;
        let deaf = "select not exists (select from pg_stat_wal_receiver)";
        until(&mut standby, deaf, "the standby still listens after a minute").await
    }

    /// The primary dies, the standby takes over its address. What it had not heard of is gone.
    pub async fn promote(&mut self) -> Result<()> {
        let standby = self.standby.take().ok_or("there is no standby to promote")?;
        self.primary.kill()?;
        let mut connection = standby.connect("postgres").await?;
        let promoted = "select pg_promote(true, 60)";
        until(&mut connection, promoted, "the standby was not promoted").await?;
        connection.close().await?;
        self.proxy.retarget(standby.port());
        self.proxy.cut();
        self.primary = standby;
        Ok(())
    }

    /// A fresh standby of the server the address leads to; the last one was promoted.
    pub fn renew(&mut self) -> Result<()> {
        self.standby = Some(self.primary.standby()?);
        Ok(())
    }

    /// Where the standby itself is.
    pub fn standby_port(&self) -> Result<u16> {
        Ok(self.follower()?.port())
    }

    /// From here on a commit is acknowledged only once the standby has it.
    pub async fn synchronous(&mut self) -> Result<()> {
        let mut primary = self.primary.connect("postgres").await?;
        synchronous_with(&mut primary, "*").await?;
        let sync = "select exists (select from pg_stat_replication where sync_state = 'sync')";
        until(&mut primary, sync, "the standby is not synchronous after a minute").await
    }

    /// The primary dies, the standby becomes one. It has all that was acknowledged while it was
    /// synchronous, and waits for no other, as whoever promotes has to see to.
    pub async fn take_over(&mut self) -> Result<()> {
        let standby = self.follower()?;
        let mut connection = standby.connect("postgres").await?;
        synchronous_with(&mut connection, "").await?;
        self.promote().await
    }

    fn follower(&self) -> Result<&Postgres> {
        self.standby.as_ref().ok_or_else(|| "there is no standby".into())
    }
}

async fn synchronous_with(connection: &mut PgConnection, names: &str) -> Result<()> {
    let set = format!("alter system set synchronous_standby_names = '{names}'");
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *connection).await?;
    sqlx::raw_sql("select pg_reload_conf()").execute(connection).await?;
    Ok(())
}

async fn until(connection: &mut PgConnection, sql: &'static str, otherwise: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut *connection).await? {
        if Instant::now() > deadline {
            return Err(otherwise.into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
