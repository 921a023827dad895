//! A replica set of three behind proxies, and what happens to it.

use std::time::Duration;

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS};
use devstack::{Mode, Mongo, MongoOptions, Result};
use fastrand::Rng;
use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};
use tokio::runtime::Handle;

use crate::action::{Action, moment};
use crate::load::DATABASE;

const MEMBERS: usize = 3;

pub struct Source {
    pub mongo: Mongo,
    handle: Handle,
}

impl Source {
    pub fn start(handle: &Handle) -> Result<Self> {
        let options = MongoOptions {
            members: MEMBERS,
            oplog_megabytes: 64,
            cache_gigabytes: 0.25,
            proxied: true,
            ..MongoOptions::default()
        };
        Ok(Self { mongo: Mongo::start(&options)?, handle: handle.clone() })
    }

    pub fn database(&self) -> Result<Database> {
        Ok(self.handle.block_on(self.mongo.client())?.database(DATABASE))
    }

    pub fn perform(&mut self, action: Action, rng: &mut Rng) -> Result<String> {
        let member = rng.usize(..MEMBERS);
        let handle = self.handle.clone();
        match action {
            Action::CutSource => self.proxy(member)?.cut(),
            Action::StallSource => return self.stall(member, rng),
            Action::KillMongod => return self.kill(member, rng),
            Action::StepDown => handle.block_on(self.mongo.step_down())?,
            Action::RollOplog => handle.block_on(self.mongo.roll_oplog(1))?,
            Action::MajorityStands => return handle.block_on(self.stand_still(rng)),
            Action::DropCollection => return handle.block_on(self.drop_and_make(rng)),
            Action::OutCollection => handle.block_on(self.out(DOCTORS, DOCTORS))?,
            Action::RenameOnto => handle.block_on(self.rename_onto())?,
            other => return Err(format!("{other:?} is not done to the source").into()),
        }
        Ok(String::new())
    }

    /// All members run, all wires lead through, somebody is primary.
    pub fn calm(&mut self) -> Result<()> {
        for member in 0..MEMBERS {
            self.proxy(member)?.set(Mode::Pass);
        }
        self.handle.block_on(async {
            self.replicate(true).await?;
            self.mongo.wait_for_primary().await
        })
    }

    fn proxy(&self, member: usize) -> Result<&devstack::Proxy> {
        self.mongo.proxy(member).ok_or_else(|| "the set is not proxied".into())
    }

    fn stall(&self, member: usize, rng: &mut Rng) -> Result<String> {
        let long = moment(rng, 300..9_000);
        let proxy = self.proxy(member)?;
        proxy.set(Mode::Stall);
        std::thread::sleep(long);
        proxy.set(Mode::Pass);
        if rng.bool() {
            proxy.cut();
        }
        Ok(format!("({member}) for {long:?}"))
    }

    fn kill(&mut self, member: usize, rng: &mut Rng) -> Result<String> {
        let long = moment(rng, 0..6_000);
        self.mongo.kill(member)?;
        std::thread::sleep(long);
        self.mongo.restart(member)?;
        Ok(format!("({member}) for {long:?}"))
    }

    /// Secondaries take nothing: what the primary says yes to is not majority-committed.
    async fn stand_still(&self, rng: &mut Rng) -> Result<String> {
        let long = moment(rng, 3_000..20_000);
        self.replicate(false).await?;
        tokio::time::sleep(long).await;
        self.replicate(true).await?;
        Ok(format!("for {long:?}"))
    }

    async fn replicate(&self, yes: bool) -> Result<()> {
        for host in self.mongo.hosts() {
            let uri =
                format!("mongodb://{host}/?directConnection=true&serverSelectionTimeoutMS=5000");
            let admin = Client::with_uri_str(uri).await?.database("admin");
            let hello = admin.run_command(doc! { "hello": 1 }).await?;
            let secondary = !hello.get_bool("isWritablePrimary").unwrap_or_default();
            let mode = if !yes && secondary { "alwaysOn" } else { "off" };
            let command = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
            admin.run_command(command).await?;
        }
        Ok(())
    }

    async fn drop_and_make(&self, rng: &mut Rng) -> Result<String> {
        let database = self.mongo.client().await?.database(DATABASE);
        let collection = database.collection::<Document>(RECOMMENDATIONS);
        let kept: Vec<Document> = collection.find(doc! {}).limit(800).await?.try_collect().await?;
        collection.drop().await?;
        let long = moment(rng, 0..6_000);
        tokio::time::sleep(long).await;
        // Whoever works on it may have made it again by inserting, and these documents with it.
        let _ = collection.insert_many(kept).ordered(false).await;
        Ok(format!("after {long:?}"))
    }

    async fn out(&self, from: &str, to: &str) -> Result<()> {
        let database = self.mongo.client().await?.database(DATABASE);
        let most = doc! { "$match": { "sanction": { "$ne": "Yes" } } };
        let pipeline = [most, doc! { "$out": to }];
        database.collection::<Document>(from).aggregate(pipeline).await?;
        Ok(())
    }

    async fn rename_onto(&self) -> Result<()> {
        self.out(DOCTORS, "spare").await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let from = format!("{DATABASE}.spare");
        let to = format!("{DATABASE}.{DOCTORS}");
        let command = doc! { "renameCollection": from, "to": to, "dropTarget": true };
        self.mongo.client().await?.database("admin").run_command(command).await?;
        Ok(())
    }
}
