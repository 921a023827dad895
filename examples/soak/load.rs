//! Whoever works on the source. What they write may be lost with a primary; what is confirmed may
//! not.

use std::time::Duration;

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation, doctor, gmc_number};
use devstack::{Mongo, Result};
use fastrand::Rng;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Collection, Database};
use tokio::runtime::Handle;

use crate::action::Action;

pub const DATABASE: &str = "soak";
/// Stands in documents and ids, and nowhere else.
pub const CANARY: &str = "canary-in-the-coal-mine";
/// With room, below MongoDB's limit of 16 MiB, for what an event says beside the document; and
/// without.
const HUGE: [usize; 2] = [15 << 20, (16 << 20) - 400];
const NUMBERED: i32 = 20;

pub struct Load {
    handle: Handle,
    client: Client,
    data: Revalidation,
}

impl Load {
    /// Writes are confirmed by the primary alone: those it loses must show nowhere.
    pub fn start(handle: &Handle, mongo: &Mongo, seed: u64) -> Result<Self> {
        let uri = format!("{}&w=1", mongo.uri());
        let client = handle.block_on(Client::with_uri_str(uri))?;
        let mut data = Revalidation::new(client.database(DATABASE), seed);
        handle.block_on(data.load(3_000, 2_000))?;
        Ok(Self { handle: handle.clone(), client, data })
    }

    pub const fn changes(&self) -> usize {
        self.data.changes
    }

    pub fn perform(&mut self, action: Action, rng: &mut Rng) -> Result<String> {
        let handle = self.handle.clone();
        handle.block_on(async {
            // A client whose server froze would wait for minutes; nobody else waits for it.
            let limit = Duration::from_secs(20);
            tokio::time::timeout(limit, self.change(action, rng)).await?
        })?;
        Ok(String::new())
    }

    async fn change(&mut self, action: Action, rng: &mut Rng) -> Result<()> {
        match action {
            Action::WorkingDay => self.data.work(rng.usize(1..120)).await,
            Action::Transaction => self.transaction(rng).await,
            Action::SameAgain => same_again(&self.doctors(), rng).await,
            Action::BackAgain => back_again(&self.doctors(), rng).await,
            Action::HugeDocument => huge(self.data.database.clone(), rng).await,
            Action::WideDocument => wide(&self.doctors(), rng).await,
            Action::OtherType => other_type(&self.doctors(), rng).await,
            other => Err(format!("{other:?} is no change of a document").into()),
        }
    }

    fn doctors(&self) -> Collection<Document> {
        self.data.database.collection(DOCTORS)
    }

    /// A doctor and a recommendation, both or neither.
    async fn transaction(&mut self, rng: &mut Rng) -> Result<()> {
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let number = rng.usize(..self.data.doctors.max(1));
        let replacement = doctor(rng, number);
        let id = gmc_number(number);
        let doctors = self.doctors();
        let replace = doctors.replace_one(doc! { "_id": &id }, replacement).upsert(true);
        replace.session(&mut session).await?;
        let recommendations = self.data.database.collection::<Document>(RECOMMENDATIONS);
        let set = doc! { "$set": { "recommendationStatus": "SUBMITTED_TO_GMC", "note": CANARY } };
        let update = recommendations.update_many(doc! { "gmcNumber": &id }, set);
        update.session(&mut session).await?;
        if rng.u8(..5) == 0 {
            session.abort_transaction().await?;
        } else {
            session.commit_transaction().await?;
        }
        Ok(())
    }
}

async fn any(collection: &Collection<Document>, rng: &mut Rng) -> Result<Option<Document>> {
    let from = doc! { "_id": { "$gte": gmc_number(rng.usize(..3_000)) } };
    Ok(collection.find_one(from).await?)
}

async fn same_again(doctors: &Collection<Document>, rng: &mut Rng) -> Result<()> {
    for _ in 0..rng.usize(1..20) {
        if let Some(document) = any(doctors, rng).await? {
            let id = document.get("_id").cloned().unwrap_or(Bson::Null);
            doctors.replace_one(doc! { "_id": id }, document).await?;
        }
    }
    Ok(())
}

async fn back_again(doctors: &Collection<Document>, rng: &mut Rng) -> Result<()> {
    if let Some(document) = any(doctors, rng).await? {
        let id = document.get("_id").cloned().unwrap_or(Bson::Null);
        doctors.delete_one(doc! { "_id": id }).await?;
        if rng.bool() {
            tokio::time::sleep(Duration::from_millis(rng.u64(..300))).await;
        }
        doctors.insert_one(document).await?;
    }
    Ok(())
}

/// One such document at a time, in the collection that is quieter; its id tells of data, too.
async fn huge(database: Database, rng: &mut Rng) -> Result<()> {
    let collection = database.collection::<Document>(RECOMMENDATIONS);
    let id = format!("{CANARY}-huge");
    if rng.u8(..3) == 0 {
        collection.delete_one(doc! { "_id": id }).await?;
        return Ok(());
    }
    // Control characters take six times their size as JSON.
    let letter = if rng.bool() { "x" } else { "\u{1}" };
    let size = HUGE[rng.usize(..HUGE.len())];
    let document = doc! { "gmcNumber": "1000001", "note": CANARY, "text": letter.repeat(size) };
    collection.replace_one(doc! { "_id": &id }, document).upsert(true).await?;
    collection.update_one(doc! { "_id": &id }, doc! { "$set": { "outcome": "APPROVED" } }).await?;
    Ok(())
}

async fn wide(doctors: &Collection<Document>, rng: &mut Rng) -> Result<()> {
    let id = format!("{CANARY}-wide");
    if rng.u8(..3) == 0 {
        doctors.delete_one(doc! { "_id": id }).await?;
        return Ok(());
    }
    let mut document = doc! { "doctorStatus": "DRAFT", "note": CANARY };
    for number in 0..100_000 {
        document.insert(format!("{CANARY}{number}"), number);
    }
    doctors.replace_one(doc! { "_id": &id }, document).upsert(true).await?;
    Ok(())
}

/// The server takes 7 and Int64 7 for equal; one document stays one row.
async fn other_type(doctors: &Collection<Document>, rng: &mut Rng) -> Result<()> {
    let number = rng.i32(..NUMBERED);
    let id = match rng.u8(..3) {
        0 => Bson::Int32(number),
        1 => Bson::Int64(i64::from(number)),
        _ => Bson::Double(f64::from(number)),
    };
    if rng.u8(..4) == 0 {
        doctors.delete_one(doc! { "_id": number }).await?;
        return Ok(());
    }
    let document = doc! { "_id": id, "doctorStatus": "DRAFT", "round": rng.u32(..) };
    doctors.replace_one(doc! { "_id": number }, document).upsert(true).await?;
    Ok(())
}
