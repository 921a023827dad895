//! Data sets with arrays of documents, after shapes that are well known, by a seeded generator.

use fastrand::Rng;
use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};

use super::CANARY;

const DAY: i64 = 86_400_000;

/// 2026-01-01.
const NEW_YEAR: i64 = 20_454 * DAY;

type Make = fn(&mut Rng, i32) -> Document;

pub fn all() -> [(&'static str, Vec<Document>); 3] {
    let sets: [(&str, Make); 3] =
        [("restaurants", restaurant), ("companies", company), ("stays", stay)];
    sets.map(|(name, make)| {
        let mut rng = Rng::with_seed(21);
        (name, (0..300).map(|n| make(&mut rng, n)).collect())
    })
}

fn word(rng: &mut Rng, name: &str) -> String {
    format!("{name} {CANARY} {}", rng.u64(..))
}

fn day(rng: &mut Rng) -> DateTime {
    DateTime::from_millis(NEW_YEAR + rng.i64(0..300) * DAY)
}

fn time(rng: &mut Rng) -> DateTime {
    DateTime::from_millis(NEW_YEAR + rng.i64(0..300 * DAY))
}

fn many(rng: &mut Rng, most: usize, make: impl Fn(&mut Rng) -> Document) -> Vec<Document> {
    (0..rng.usize(0..=most)).map(|_| make(rng)).collect()
}

fn often<T: Into<Bson>>(rng: &mut Rng, make: impl Fn(&mut Rng) -> T) -> Bson {
    if rng.u8(0..5) == 0 { Bson::Null } else { make(rng).into() }
}

/// A restaurant: grades on days, a place that is an array of numbers.
fn restaurant(rng: &mut Rng, n: i32) -> Document {
    let grade = |rng: &mut Rng| {
        let grade = rng.choice(["A", "B", "C"]).unwrap();
        doc! { "date": day(rng), "grade": grade, "score": rng.i32(0..40) }
    };
    doc! {
        "_id": ObjectId::from_bytes(std::array::from_fn(|_| rng.u8(..))),
        "restaurant_id": n.to_string(),
        "name": word(rng, "name"),
        "address": {
            "building": word(rng, "building"), "coord": [rng.f64(), rng.f64()],
            "zipcode": word(rng, "zip"),
        },
        "grades": many(rng, 5, grade),
    }
}

/// A company: rounds with investments in them, people, offices; most fields are null in some.
fn company(rng: &mut Rng, n: i32) -> Document {
    let investment = |rng: &mut Rng| {
        doc! { "company": { "name": word(rng, "company") }, "person": Bson::Null }
    };
    let amount = |rng: &mut Rng| {
        if rng.bool() { Bson::from(rng.i32(1..9_000)) } else { rng.f64().into() }
    };
    let round = |rng: &mut Rng| {
        doc! {
            "id": rng.i32(1..9_999), "round_code": rng.choice(["seed", "a", "b"]).unwrap(),
            "raised_amount": amount(rng),
            "source_url": often(rng, |rng| word(rng, "url")),
            "investments": many(rng, 2, investment),
        }
    };
    let relationship = |rng: &mut Rng| {
        doc! {
            "is_past": rng.bool(), "title": word(rng, "title"),
            "person": { "first_name": word(rng, "first"), "permalink": word(rng, "link") },
        }
    };
    let office = |rng: &mut Rng| {
        doc! { "address1": word(rng, "street"), "latitude": often(rng, Rng::f64) }
    };
    let mut company = doc! {
        "_id": n,
        "name": word(rng, "name"),
        "funding_rounds": many(rng, 4, round),
        "relationships": many(rng, 3, relationship),
        "offices": many(rng, 2, office),
        "milestones": [],
        "acquisition": Bson::Null,
        "image": { "available_sizes": [[[75, 19], word(rng, "asset")]] },
        "tag_list": [word(rng, "tag")],
    };
    if n % 3 > 0 {
        company.insert("external_links", many(rng, 2, |rng| doc! { "url": word(rng, "url") }));
    }
    company
}

/// A place to stay: reviews with an `_id`, past prices in `history`, visits by device, photos deep.
fn stay(rng: &mut Rng, n: i32) -> Document {
    let review = |rng: &mut Rng| {
        doc! {
            "_id": word(rng, "review"), "date": time(rng), "position": rng.i32(0..9),
            "reviewer_name": word(rng, "who"), "accessToken": word(rng, "token"),
            "parent_id": Bson::Null, "keywords": [word(rng, "a"), word(rng, "b")],
            "photos": [{ "url": word(rng, "photo") }], "seen.at": word(rng, "seen"),
        }
    };
    let price = |rng: &mut Rng| doc! { "until": day(rng), "price": rng.i64(1..1 << 40) };
    let point = doc! { "type": "Point", "coordinates": [rng.f64(), rng.f64()] };
    doc! {
        "_id": { "city": word(rng, "city"), "n": n },
        "summary": word(rng, "summary"),
        "_class": "Stay",
        "__v": n,
        "reviews": many(rng, 3, review),
        "history": many(rng, 2, price),
        "path": vec![point; 2],
        "host": { "listings": many(rng, 2, |rng| doc! { "url": word(rng, "url") }) },
        "checked": time(rng),
        "cancelled": Bson::Null,
    }
}
