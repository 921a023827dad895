//! The load of the bars: documents shaped like `doctorsForDB`, half inserts, 40 % updates, 10 %
//! deletes, skewed keys.

use devstack::revalidation::gmc_number;
use fastrand::Rng;
use mongodb::Database;
use mongodb::bson::{DateTime, Document, doc};

pub const COLLECTION: &str = "doctorsForDB";

#[derive(Clone, Copy)]
pub enum Shape {
    Big,
    Small,
}

impl Shape {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Big => "big",
            Self::Small => "small",
        }
    }

    fn document(self, rng: &mut Rng, number: usize) -> Document {
        match self {
            Self::Big => {
                let mut document = devstack::revalidation::doctor(rng, number);
                document.insert(
                    "notes",
                    "reviewed by the designated body and the responsible officer; see file "
                        .to_owned()
                        + &"x".repeat(120),
                );
                document
            }
            Self::Small => {
                doc! {
                    "_id": gmc_number(number),
                    "doctorLastName": "Smith",
                    "doctorStatus": "DRAFT",
                    "n": rng.i32(..),
                }
            }
        }
    }
}

/// The name of one collection of many, and of its stream and table.
pub fn numbered(number: usize) -> String {
    format!("c{number:04}")
}

/// Makes a small collection of twenty documents.
pub async fn twenty(source: &Database, collection: &str) {
    let document = |n: i32| doc! { "_id": format!("first{n}"), "doctorLastName": "Smith", "n": n };
    source.collection(collection).insert_many((0..20).map(document)).await.unwrap();
}

/// Writes `events` changes.
pub async fn backlog(source: &Database, shape: Shape, events: usize) {
    let mut rng = Rng::with_seed(42);
    let (mut next, mut made) = (0, 0);
    while made < events {
        let part = (events - made).min(1_000);
        let inserts: Vec<Document> =
            (0..part.div_ceil(2)).map(|n| shape.document(&mut rng, next + n)).collect();
        next += inserts.len();
        let (mut left, inserted) = (part - inserts.len(), inserts.len());
        source.collection::<Document>(COLLECTION).insert_many(inserts).await.unwrap();
        let deletes = left / 5;
        left -= deletes;
        // Squared: most changes go to few keys. Each update changes something, so each is an event.
        let mut key = || gmc_number((rng.f64().powi(2) * next as f64) as usize);
        let mut updates: Vec<Document> = Vec::new();
        for n in 0..left {
            let at = DateTime::from_millis(i64::try_from((made + n) * 1000).unwrap());
            let set = doc! { "$set": { "doctorStatus": "STARTED", "lastUpdatedDate": at } };
            updates.push(doc! { "q": { "_id": key() }, "u": set });
        }
        let mut changed = inserted;
        if !updates.is_empty() {
            changed += run(source, doc! { "update": COLLECTION, "updates": updates }).await;
        }
        // Each delete takes a living document, so that each is an event.
        for _ in 0..deletes {
            let from = key();
            let find = doc! {
                "findAndModify": COLLECTION,
                "query": { "_id": { "$gte": from } },
                "remove": true,
                "sort": { "_id": 1 },
            };
            let reply = source.run_command(find).await.unwrap();
            changed += usize::from(reply.get_document("value").is_ok());
        }
        made += changed;
    }
    assert!(made >= events);
}

async fn run(source: &Database, command: Document) -> usize {
    let reply = source.run_command(command).await.unwrap();
    usize::try_from(reply.get_i32("nModified").unwrap()).unwrap()
}

/// Loads `documents` documents.
pub async fn collection(source: &Database, documents: usize) {
    let mut rng = Rng::with_seed(43);
    let all: Vec<Document> = (0..documents).map(|n| Shape::Big.document(&mut rng, n)).collect();
    for chunk in all.chunks(2_000) {
        source.collection::<Document>(COLLECTION).insert_many(chunk).await.unwrap();
    }
}

/// Replaces every document: a share of them changes, the rest keep their content with their fields
/// in another order (the server writes no event for a replacement that is the same to the byte).
pub async fn rewrite(source: &Database, documents: usize, changed_share: f64) {
    let mut rng = Rng::with_seed(43);
    let every = (1.0 / changed_share) as usize;
    let all: Vec<Document> = (0..documents)
        .map(|n| {
            let mut document = Shape::Big.document(&mut rng, n);
            let first = document.remove("doctorFirstName").unwrap();
            document.insert("doctorFirstName", first);
            if n % every == 0 {
                document.insert("doctorStatus", "REWRITTEN");
            }
            doc! { "q": { "_id": gmc_number(n) }, "u": document }
        })
        .collect();
    for chunk in all.chunks(1_000) {
        assert_eq!(
            run(source, doc! { "update": COLLECTION, "updates": chunk.to_vec() }).await,
            chunk.len()
        );
    }
}
