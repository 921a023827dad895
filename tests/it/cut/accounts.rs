//! The source of the cut: amounts that are moved between documents of three collections, whose sum
//! is the same in every state the source was ever in, and in no mixture of two of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{Client, ClientSession, Collection};
use tokio_util::sync::CancellationToken;

use crate::support::{World, stream};

pub const ACCOUNTS: [&str; 3] = ["current", "savings", "loan"];
const EACH: i32 = 40;
const AMOUNT: i64 = 1_000;
/// Accounts that move as a whole.
const WANDERING: i32 = 12;
pub const NUMBER: i64 = (3 * EACH + WANDERING) as i64;
pub const TOTAL: i64 = NUMBER * AMOUNT;
/// More moves than a batch of [`EXTRA`] holds, in one transaction.
const MANY: usize = 60;

/// Batches and chunks are so small that transactions and walks are larger.
pub const EXTRA: &str = "batch.events_max = 40\nresync.chunk_documents = 20\n\
                         resync.automatic_per_day_max = 1000000\n\
                         resync.delete_count_min = 1000\n";

pub fn streams() -> String {
    let column = |name: &str| format!("{{ name = {name:?}, field = {name:?}, type = \"bigint\" }}");
    let columns = ["n", "amount", "moves"].map(column).join(", ");
    ACCOUNTS.map(|name| stream(name, name, &format!("column = [ {columns} ]"))).concat()
}

pub async fn open_accounts(world: &World) {
    for (place, name) in ACCOUNTS.into_iter().enumerate() {
        let last = EACH + if place == 0 { WANDERING } else { 0 };
        let accounts = (0..last).map(|n| doc! { "_id": n, "n": n, "amount": AMOUNT, "moves": 0 });
        world.collection(name).insert_many(accounts).await.unwrap();
    }
}

/// Moves amounts until told to stop.
pub struct Mover {
    pub uri: String,
    pub database: String,
    pub rng: Rng,
    pub pace: Pace,
}

/// When amounts are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Steady,
    /// By all movers at once for two seconds of eight; else only the source's time moves.
    WithRests,
}

impl Pace {
    fn rests(self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self == Self::WithRests && now.as_secs() % 8 >= 2
    }
}

type Accounts = [Collection<Document>; 3];

impl Mover {
    /// How many moves were confirmed.
    pub async fn work(mut self, stop: CancellationToken) -> u64 {
        let client = Client::with_uri_str(&self.uri).await.unwrap();
        let database = client.database(&self.database);
        let accounts = ACCOUNTS.map(|name| database.collection::<Document>(name));
        let elsewhere = database.collection::<Document>("elsewhere");
        let mut moved = 0;
        while !stop.is_cancelled() {
            if self.pace.rests() {
                let _ = elsewhere.insert_one(doc! {}).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let Ok(mut session) = client.start_session().await else { continue };
            // A primary that steps down, or a conflict: whatever came of it, the sum is the same.
            match self.one(&mut session, &accounts).await {
                Ok(true) => moved += 1,
                Ok(false) | Err(_) => _ = session.abort_transaction().await,
            }
            tokio::time::sleep(Duration::from_millis(self.rng.u64(1..20))).await;
        }
        moved
    }

    /// One transaction; or a change beside them, which no sum shows.
    async fn one(&mut self, session: &mut ClientSession, accounts: &Accounts) -> Result<bool> {
        let (kind, from) = (self.rng.u8(..100), &accounts[self.rng.usize(..3)]);
        if kind < 10 {
            let touch = doc! { "$inc": { "moves": 1 } };
            from.update_one(doc! { "_id": self.rng.i32(0..EACH) }, touch).await?;
            return Ok(true);
        }
        session.start_transaction().await?;
        let moves = if kind < 13 { MANY } else { 1 };
        for _ in 0..moves {
            let done = if kind < 45 && moves == 1 {
                self.wander(session, accounts).await?
            } else {
                self.amount(session, accounts).await?
            };
            if !done && moves == 1 {
                return Ok(false);
            }
        }
        session.commit_transaction().await.map(|()| true)
    }

    /// A whole account goes elsewhere, if it is here: its id is of no account that stays.
    async fn wander(&mut self, session: &mut ClientSession, accounts: &Accounts) -> Result<bool> {
        let (from, to) = self.two(accounts);
        let id = doc! { "_id": EACH + self.rng.i32(0..WANDERING) };
        let gone = from.find_one_and_delete(id).session(&mut *session).await?;
        let Some(mut account) = gone else { return Ok(false) };
        account.insert("moves", account.get_i32("moves").unwrap_or_default() + 1);
        to.insert_one(account).session(&mut *session).await?;
        Ok(true)
    }

    /// A part of an amount, of an account that may be elsewhere by the time its document is read.
    async fn amount(&mut self, session: &mut ClientSession, accounts: &Accounts) -> Result<bool> {
        let ((from, to), amount) = (self.two(accounts), self.rng.i64(1..50));
        let known = |n: i32| doc! { "_id": n };
        let (giver, taker) = (self.rng.i32(0..EACH + WANDERING), self.rng.i32(0..EACH));
        let change = |amount: i64| doc! { "$inc": { "amount": amount, "moves": 1 } };
        let given = from.update_one(known(giver), change(-amount)).session(&mut *session).await?;
        if given.matched_count == 1 {
            to.update_one(known(taker), change(amount)).session(&mut *session).await?;
        }
        Ok(given.matched_count == 1)
    }

    fn two<'a>(
        &mut self,
        accounts: &'a Accounts,
    ) -> (&'a Collection<Document>, &'a Collection<Document>) {
        (&accounts[self.rng.usize(..3)], &accounts[self.rng.usize(..3)])
    }
}
