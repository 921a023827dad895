//! Data shaped like the revalidation database: seeded, so that a run can be repeated.

use std::time::{Duration, SystemTime};

use fastrand::Rng;
use mongodb::Database;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

use crate::Result;

pub const DOCTORS: &str = "doctorsForDB";
pub const RECOMMENDATIONS: &str = "recommendation";

const FIRST: [&str; 12] = [
    "Mary", "Aisha", "John", "Siân", "Olu", "Chen", "Zoë", "Rajesh", "Fatima", "Müller", "Ngozi",
    "Tomasz",
];
const LAST: [&str; 12] = [
    "O'Neill", "Khan", "Smith", "Davies", "Okafor", "Wei", "Brontë", "Patel", "Hassan", "Jones",
    "Adeyemi", "Nowak",
];
const BODIES: [&str; 6] = ["1-AIIDWI", "1-AIIDSA", "1-AIIDR8", "1-AIIDWT", "1-AIIDH1", "1-AIIDQQ"];
const STATUS: [&str; 7] = [
    "NOT_STARTED",
    "STARTED",
    "READY_TO_REVIEW",
    "READY_TO_SUBMIT",
    "SUBMITTED_TO_GMC",
    "COMPLETED",
    "DRAFT",
];

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

fn midnight(rng: &mut Rng) -> Bson {
    let day = 18_000 + rng.i64(0..2_600);
    Bson::DateTime(DateTime::from_millis(day * 86_400_000))
}

pub fn gmc_number(number: usize) -> String {
    format!("{:07}", 1_000_000 + number)
}

/// A doctor's document.
pub fn doctor(rng: &mut Rng, number: usize) -> Document {
    let first = pick(rng, &FIRST);
    let last = pick(rng, &LAST);
    let mut document = doc! {
        "_id": gmc_number(number),
        "doctorFirstName": first,
        "doctorLastName": last,
        "submissionDate": midnight(rng),
        "dateAdded": if rng.u8(..10) == 0 { Bson::Null } else { midnight(rng) },
        "sanction": if rng.u8(..20) == 0 { "Yes" } else { "No" },
        "doctorStatus": pick(rng, &STATUS),
        "lastUpdatedDate": midnight(rng),
        "gmcLastUpdatedDateTime":
            DateTime::from_millis(1_700_000_000_000 + rng.i64(0..90_000_000_000)),
        "designatedBodyCode":
            if rng.u8(..15) == 0 { Bson::Null } else { pick(rng, &BODIES).into() },
        "admin": format!("{}.{}@example.nhs.uk", first.to_lowercase(), rng.u16(..50)),
        "existsInGmc": rng.u8(..50) != 0,
        "_class": "uk.nhs.hee.tis.revalidation.entity.DoctorsForDB",
    };
    if rng.u8(..3) != 0 {
        document.insert("underNotice", pick(rng, &["YES", "NO", "ON_HOLD"]));
    }
    document
}

/// A recommendation for one of `doctors` doctors.
pub fn recommendation(rng: &mut Rng, id: ObjectId, doctors: usize) -> Document {
    let kind = pick(rng, &["REVALIDATE", "DEFER", "NON_ENGAGEMENT"]);
    let comments: Vec<String> =
        (0..rng.usize(..4)).map(|n| format!("comment {n}: \"seen\", \\ and agreed")).collect();
    let mut document = doc! {
        "_id": id,
        "gmcNumber": gmc_number(rng.usize(..doctors.max(1))),
        "recommendationType": kind,
        "recommendationStatus": pick(rng, &STATUS),
        "gmcSubmissionDate": midnight(rng),
        "actualSubmissionDate": midnight(rng),
        "gmcRevalidationId": format!("{}", rng.u32(..)),
        "comments": comments,
        "admin": format!("admin.{}@example.nhs.uk", rng.u16(..50)),
        "_class": "uk.nhs.hee.tis.revalidation.entity.Recommendation",
    };
    if kind == "DEFER" {
        document.insert("deferralDate", midnight(rng));
        document.insert("deferralReason", rng.u8(1..=9).to_string());
        document.insert("deferralSubReason", rng.u8(1..=8).to_string());
    }
    if rng.bool() {
        document.insert("outcome", pick(rng, &["APPROVED", "REJECTED", "UNDER_REVIEW"]));
    }
    document
}

/// An id that tells the order of making.
pub fn object_id(rng: &mut Rng) -> ObjectId {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&u32::try_from(seconds).unwrap_or_default().to_be_bytes());
    rng.fill(&mut bytes[4..]);
    ObjectId::from_bytes(bytes)
}

/// A database being worked on.
pub struct Revalidation {
    pub database: Database,
    pub rng: Rng,
    pub doctors: usize,
    pub recommendations: Vec<ObjectId>,
    /// Changes made since the start, loads included.
    pub changes: usize,
}

impl Revalidation {
    pub fn new(database: Database, seed: u64) -> Self {
        Self {
            database,
            rng: Rng::with_seed(seed),
            doctors: 0,
            recommendations: Vec::new(),
            changes: 0,
        }
    }

    /// Loads both collections.
    pub async fn load(&mut self, doctors: usize, recommendations: usize) -> Result<()> {
        let first = self.doctors;
        self.doctors += doctors;
        let all: Vec<Document> = (first..self.doctors).map(|n| doctor(&mut self.rng, n)).collect();
        for chunk in all.chunks(5_000) {
            self.database.collection::<Document>(DOCTORS).insert_many(chunk).await?;
        }
        let ids: Vec<ObjectId> = (0..recommendations).map(|_| object_id(&mut self.rng)).collect();
        let all: Vec<Document> =
            ids.iter().map(|id| recommendation(&mut self.rng, *id, self.doctors)).collect();
        for chunk in all.chunks(5_000) {
            self.database.collection::<Document>(RECOMMENDATIONS).insert_many(chunk).await?;
        }
        self.recommendations.extend(ids);
        self.changes += doctors + recommendations;
        Ok(())
    }

    /// Makes `number` changes as a working day does, in bulk commands of mixed kind: most are
    /// replaces of doctors.
    pub async fn work(&mut self, number: usize) -> Result<()> {
        let mut left = number;
        while left > 0 {
            let part = left.min(1 + self.rng.usize(..60));
            match self.rng.u8(..10) {
                0..=6 => self.change_doctors(part).await?,
                _ => self.change_recommendations(part).await?,
            }
            left -= part;
            self.changes += part;
        }
        Ok(())
    }

    async fn change_doctors(&mut self, number: usize) -> Result<()> {
        let mut updates: Vec<Document> = Vec::new();
        let mut inserts: Vec<Document> = Vec::new();
        let mut deletes: Vec<Document> = Vec::new();
        for _ in 0..number {
            // Skewed: a few doctors change often.
            let hot = self.rng.bool();
            let range = if hot { (self.doctors / 20).max(1) } else { self.doctors.max(1) };
            let n = self.rng.usize(..range);
            match self.rng.u8(..20) {
                0..=1 => {
                    inserts.push(doctor(&mut self.rng, self.doctors));
                    self.doctors += 1;
                }
                2 => deletes.push(doc! { "q": { "_id": gmc_number(n) }, "limit": 1 }),
                3..=12 => {
                    let replacement = doctor(&mut self.rng, n);
                    updates.push(
                        doc! { "q": { "_id": gmc_number(n) }, "u": replacement, "upsert": true },
                    );
                }
                _ => {
                    let status = pick(&mut self.rng, &STATUS);
                    let date = midnight(&mut self.rng);
                    let set = doc! { "$set": { "doctorStatus": status, "lastUpdatedDate": date } };
                    updates.push(doc! { "q": { "_id": gmc_number(n) }, "u": set });
                }
            }
        }
        self.send(DOCTORS, inserts, updates, deletes).await
    }

    async fn change_recommendations(&mut self, number: usize) -> Result<()> {
        let mut updates: Vec<Document> = Vec::new();
        let mut inserts: Vec<Document> = Vec::new();
        let mut deletes: Vec<Document> = Vec::new();
        for _ in 0..number {
            let kind = if self.recommendations.is_empty() { 0 } else { self.rng.u8(..10) };
            if kind < 3 {
                let id = object_id(&mut self.rng);
                inserts.push(recommendation(&mut self.rng, id, self.doctors));
                self.recommendations.push(id);
                continue;
            }
            let place = self.rng.usize(..self.recommendations.len());
            let id = self.recommendations[place];
            match kind {
                3 => {
                    self.recommendations.swap_remove(place);
                    deletes.push(doc! { "q": { "_id": id }, "limit": 1 });
                }
                4..=6 => {
                    let whole = recommendation(&mut self.rng, id, self.doctors);
                    updates.push(doc! { "q": { "_id": id }, "u": whole });
                }
                _ => {
                    let outcome = pick(&mut self.rng, &["APPROVED", "REJECTED"]);
                    let set = doc! { "$set": { "outcome": outcome }, "$push": { "comments": "x" } };
                    updates.push(doc! { "q": { "_id": id }, "u": set });
                }
            }
        }
        self.send(RECOMMENDATIONS, inserts, updates, deletes).await
    }

    async fn send(
        &self,
        collection: &str,
        inserts: Vec<Document>,
        updates: Vec<Document>,
        deletes: Vec<Document>,
    ) -> Result<()> {
        for (verb, field, documents) in [
            ("insert", "documents", inserts),
            ("update", "updates", updates),
            ("delete", "deletes", deletes),
        ] {
            if !documents.is_empty() {
                let mut command = doc! { verb: collection };
                command.insert(field, documents);
                let reply = self.database.run_command(command).await?;
                if reply.contains_key("writeErrors") {
                    return Err(format!("{verb} failed: {reply}").into());
                }
            }
        }
        Ok(())
    }
}
