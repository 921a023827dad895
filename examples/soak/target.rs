//! A primary and its standby behind one address, and what happens to them and to the tables.

use devstack::{Failover, Mode, PostgresOptions, Result};
use fastrand::Rng;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::runtime::Handle;

use crate::action::{Action, moment};
use crate::room::Room;

pub const TABLES: [&str; 2] = ["doctor", "recommendation"];
/// Every hundredth row cannot be written, and the refusal quotes it.
const REFUSE: &str =
    "create or replace function soak_refuses() returns trigger language plpgsql as $$
    begin
        if coalesce(new.id, old.id) like '%77' then
            raise exception 'not now: %', coalesce(new.doc, old.doc);
        end if;
        if tg_op = 'DELETE' then return old; end if;
        return new;
    end $$";
const REFUSE_ON: &str = "create or replace trigger soak_refuses
    before insert or update or delete on public.doctor
    for each row execute function soak_refuses()";
const REFUSE_NO_MORE: &str = "drop function if exists soak_refuses() cascade";

pub struct Target {
    failover: Failover,
    // After what lives in it.
    room: Room,
    pub database: String,
    handle: Handle,
}

impl Target {
    pub fn start(handle: &Handle) -> Result<Self> {
        // A crash loses ten seconds of what did not wait for the disk.
        let settings = vec!["wal_writer_delay=10s".to_owned(), "max_wal_size=256MB".to_owned()];
        let room = Room::new()?;
        let options = PostgresOptions {
            settings,
            room: Some(room.folder().to_owned()),
            ..PostgresOptions::default()
        };
        let mut failover = Failover::start(&options)?;
        let database = handle.block_on(failover.primary().database())?;
        Ok(Self { failover, room, database, handle: handle.clone() })
    }

    /// Where the daemons find it.
    pub fn url(&self) -> String {
        self.failover.url(&self.database)
    }

    /// Not by way of the proxy.
    pub async fn connect(&mut self) -> Result<PgConnection> {
        let database = self.database.clone();
        self.failover.primary().connect(&database).await
    }

    pub fn perform(&mut self, action: Action, rng: &mut Rng) -> Result<String> {
        let table = TABLES[rng.usize(..TABLES.len())];
        match action {
            Action::CutTarget => self.failover.proxy().cut(),
            Action::StallTarget => return Ok(self.stall(rng)),
            Action::CrashPostgres => self.failover.primary().crash()?,
            Action::PromoteStandby => return self.promote(rng),
            Action::ReadOnly => return self.read_only(rng),
            Action::FullDisk => return self.fill(rng),
            Action::LockTable => return self.lock(table, rng),
            Action::RefuseRows => return self.refuse(rng),
            Action::RestoreTable => return self.restore(table),
            Action::EndSessions => self.run(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()",
            )?,
            Action::DropTable => {
                self.run(&format!("drop table if exists public.{table} cascade"))?;
            }
            Action::TruncateTable => self.run(&format!("truncate public.{table}"))?,
            other => return Err(format!("{other:?} is not done to the target").into()),
        }
        Ok(table.to_owned())
    }

    /// The wires lead through and nothing is refused.
    pub fn calm(&mut self) -> Result<()> {
        self.failover.proxy().set(Mode::Pass);
        self.room.empty();
        if !self.failover.primary().is_running() {
            self.failover.primary().restart()?;
        }
        self.writable()?;
        self.run(REFUSE_NO_MORE)
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        let handle = self.handle.clone();
        handle.block_on(async {
            let mut connection = self.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
            Ok(())
        })
    }

    fn stall(&self, rng: &mut Rng) -> String {
        let long = moment(rng, 300..9_000);
        self.failover.proxy().set(Mode::Stall);
        std::thread::sleep(long);
        self.failover.proxy().set(Mode::Pass);
        if rng.bool() {
            self.failover.proxy().cut();
        }
        format!("for {long:?}")
    }

    fn promote(&mut self, rng: &mut Rng) -> Result<String> {
        let (lag, alone) = (moment(rng, 500..8_000), moment(rng, 0..5_000));
        let handle = self.handle.clone();
        if handle.block_on(self.failover.cut_off()).is_err() {
            // The last one could not be made anew.
            self.failover.renew()?;
            handle.block_on(self.failover.cut_off())?;
        }
        std::thread::sleep(lag);
        handle.block_on(self.failover.promote())?;
        std::thread::sleep(alone);
        self.failover.renew()?;
        Ok(format!("{lag:?} behind"))
    }

    fn read_only(&mut self, rng: &mut Rng) -> Result<String> {
        let long = moment(rng, 500..8_000);
        self.run("alter system set default_transaction_read_only = on")?;
        self.run("select pg_reload_conf()")?;
        std::thread::sleep(long);
        self.writable()?;
        Ok(format!("for {long:?}"))
    }

    fn fill(&mut self, rng: &mut Rng) -> Result<String> {
        let long = moment(rng, 500..8_000);
        self.room.fill()?;
        std::thread::sleep(long);
        self.room.empty();
        if self.failover.primary().is_running() {
            return Ok(format!("for {long:?}"));
        }
        self.failover.primary().restart()?;
        Ok(format!("for {long:?}; it ended over it"))
    }

    fn writable(&mut self) -> Result<()> {
        self.run("alter system reset default_transaction_read_only")?;
        self.run("select pg_reload_conf()")
    }

    fn lock(&mut self, table: &str, rng: &mut Rng) -> Result<String> {
        let long = moment(rng, 500..20_000);
        let seconds = long.as_secs_f64();
        let lock = format!("begin; lock table public.{table}; select pg_sleep({seconds}); commit");
        self.run(&lock)?;
        Ok(format!("{table} for {long:?}"))
    }

    fn refuse(&mut self, rng: &mut Rng) -> Result<String> {
        let long = moment(rng, 500..8_000);
        self.run(REFUSE)?;
        self.run(REFUSE_ON)?;
        std::thread::sleep(long);
        self.run(REFUSE_NO_MORE)?;
        Ok(format!("for {long:?}"))
    }

    /// What was copied the last time is put in the table's place, and a new copy is made.
    fn restore(&mut self, table: &str) -> Result<String> {
        self.run("create schema if not exists soak")?;
        let put_back = format!(
            "do $$ begin if to_regclass('soak.{table}') is not null then
                drop table public.{table};
                create table public.{table} (like soak.{table} including all);
                insert into public.{table} select * from soak.{table};
            end if; end $$"
        );
        self.run(&put_back)?;
        let copy = format!(
            "begin; drop table if exists soak.{table};
             create table soak.{table} (like public.{table} including all);
             insert into soak.{table} select * from public.{table}; commit"
        );
        self.run(&copy)?;
        Ok(table.to_owned())
    }
}
