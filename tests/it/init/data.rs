//! Six data sets after shapes that are well known, made by a seeded generator.

use fastrand::Rng;
use mongodb::bson::{Bson, DateTime, Decimal128, Document, doc, oid::ObjectId};

use super::CANARY;

const DOCUMENTS: u32 = 300;
const DAY: i64 = 86_400_000;

/// 2026-01-01.
const NEW_YEAR: i64 = 20_454 * DAY;

type Make = fn(&mut Rng, u32) -> Document;

pub fn all() -> [(&'static str, Vec<Document>); 6] {
    let sets: [(&str, Make); 6] = [
        ("orders", order),
        ("flights", flight),
        ("listings", listing),
        ("films", film),
        ("readings", reading),
        ("tickets", ticket),
    ];
    sets.map(|(name, make)| {
        let mut rng = Rng::with_seed(17);
        (name, (0..DOCUMENTS).map(|n| make(&mut rng, n)).collect())
    })
}

fn id(rng: &mut Rng) -> ObjectId {
    ObjectId::from_bytes(std::array::from_fn(|_| rng.u8(..)))
}

fn word(rng: &mut Rng, name: &str) -> String {
    format!("{name} {CANARY} {}", rng.u32(..))
}

fn one_of(rng: &mut Rng, choices: &[&str]) -> String {
    (*rng.choice(choices).unwrap()).to_owned()
}

fn time(rng: &mut Rng) -> DateTime {
    DateTime::from_millis(NEW_YEAR + rng.i64(0..300 * DAY))
}

fn day(rng: &mut Rng) -> DateTime {
    DateTime::from_millis(NEW_YEAR + rng.i64(0..300) * DAY)
}

/// A summer day in London is stored as 23:00 of the day before.
fn day_in_london(rng: &mut Rng) -> DateTime {
    let day = rng.i64(0..300);
    let summer = i64::from((88..298).contains(&day)) * 3_600_000;
    DateTime::from_millis(NEW_YEAR + day * DAY - summer)
}

fn decimal(rng: &mut Rng, below: u32) -> Bson {
    let text = format!("{}.{:02}", rng.u32(10..below), rng.u32(0..100));
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

/// A shop's order: items in it, an address, a payment that may fail.
fn order(rng: &mut Rng, n: u32) -> Document {
    let item = |rng: &mut Rng| {
        let quantity = rng.i32(1..5);
        doc! { "sku": word(rng, "sku"), "quantity": quantity, "price": rng.f64() * 90.0 }
    };
    let items: Vec<Document> = (0..rng.u32(1..5)).map(|_| item(rng)).collect();
    let tags: Vec<String> = (0..rng.u32(0..3)).map(|_| word(rng, "tag")).collect();
    let mut order = doc! {
        "_id": id(rng),
        "orderNumber": i64::from(n) + 9_000_000_000,
        "status": one_of(rng, &["PLACED", "PAID", "SENT", "RETURNED"]),
        "placedAt": time(rng),
        "customer": { "_id": id(rng), "name": word(rng, "customer"), "email": word(rng, "mail") },
        "address": {
            "street": word(rng, "street"), "city": word(rng, "city"), "country": "GB",
            "geo": { "type": "Point", "coordinates": [rng.f64(), rng.f64()] },
        },
        "items": items,
        "tags": tags,
        "total": 10.0 + rng.f64() * 500.0,
        "isGift": rng.bool(),
        "_class": "shop.Order",
    };
    if rng.u32(0..10) < 8 {
        order.insert("deliveryDate", day(rng));
    }
    if rng.u32(0..10) == 0 {
        order.insert("couponCode", word(rng, "coupon"));
    }
    order
}

/// A flight: numbers of both sizes, a delay that is mostly missing, nested to two levels.
fn flight(rng: &mut Rng, n: u32) -> Document {
    let airport = |rng: &mut Rng| {
        doc! { "code": one_of(rng, &["LHR", "JFK", "NRT", "SYD"]),
        "position": { "lat": rng.f64() * 90.0, "lon": rng.f64() * 180.0 } }
    };
    let mut flight = doc! {
        "_id": format!("{CANARY}-{n}"),
        "flightNumber": n.cast_signed(),
        "origin": airport(rng),
        "destination": airport(rng),
        "departure": time(rng),
        "serviceDate": day(rng),
        "distanceMetres": rng.i64(100_000..17_000_000_000),
        "epochSeconds": rng.i32(1_700_000_000..1_800_000_000),
        "cancelled": rng.u32(0..20) == 0,
        "loadFactor": rng.f64(),
    };
    flight.insert("delayMinutes", if rng.bool() { Bson::Null } else { rng.i32(0..600).into() });
    flight
}

/// A place to stay: Decimal128, a nested address, lists of texts, reviews by who wrote them.
fn listing(rng: &mut Rng, n: u32) -> Document {
    let amenities: Vec<String> = (0..rng.u32(1..6)).map(|_| word(rng, "amenity")).collect();
    let scores: Document = (0..3).map(|_| (id(rng).to_hex(), rng.i32(1..6).into())).collect();
    doc! {
        "_id": n.to_string(),
        "listing_url": word(rng, "url"),
        "name": word(rng, "name"),
        "property_type": one_of(rng, &["House", "Apartment", "Boat"]),
        "minimum_nights": rng.i32(1..30).to_string(),
        "accommodates": rng.i32(1..16),
        "bathrooms": decimal(rng, 12),
        "price": decimal(rng, 9_000),
        "cleaning_fee": if rng.bool() { decimal(rng, 90) } else { Bson::Null },
        "amenities": amenities,
        "last_scraped": day_in_london(rng),
        "address": {
            "street": word(rng, "street"), "country_code": one_of(rng, &["PT", "US"]),
            "location": {
                "type": "Point", "coordinates": [rng.f64(), rng.f64()], "is_location_exact": true,
            },
        },
        "scoresByReviewer": scores,
        "images": {},
        "__v": 0,
    }
}

/// A film: years that are numbers or texts, ratings that are numbers of two kinds or empty texts.
fn film(rng: &mut Rng, n: u32) -> Document {
    let year: Bson = match n % 30 {
        0 => format!("{}è", rng.u32(1950..2026)).into(),
        _ => rng.i32(1950..2026).into(),
    };
    let rating: Bson = match n % 10 {
        0 => "".into(),
        1 => rng.i32(1..10).into(),
        _ => (rng.f64() * 10.0).into(),
    };
    let plot: Bson = match n % 3 {
        0 => word(rng, "plot").into(),
        1 => doc! { "short": word(rng, "plot") }.into(),
        _ => vec![word(rng, "plot")].into(),
    };
    let cast: Vec<String> = (0..rng.u32(1..5)).map(|_| word(rng, "actor")).collect();
    let mut film = doc! {
        "_id": id(rng),
        "title": word(rng, "title"),
        "year": year,
        "runtime": rng.i32(60..200),
        "cast": cast,
        "plot": plot,
        "imdb": { "id": rng.i32(1..9_999_999), "rating": rating, "votes": rng.i64(1..1 << 40) },
        "lastupdated": format!("{CANARY} 2015-08-26 00:00:00"),
        "writers": [],
        "poster": Bson::Null,
    };
    if !n.is_multiple_of(4) {
        film.insert("released", day(rng));
    }
    film
}

/// A sensor's reading: binary, whole and broken doubles, a state for each of its channels.
fn reading(rng: &mut Rng, n: u32) -> Document {
    let bytes: Vec<u8> = (0..16).map(|_| rng.u8(..)).collect();
    let binary =
        mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes };
    doc! {
        "_id": { "sensor": format!("{CANARY}-{}", n % 7), "n": n.cast_signed() },
        "sensorId": word(rng, "sensor"),
        "at": time(rng),
        "temperature": rng.f64() * 40.0,
        "humidity": if n.is_multiple_of(50) { f64::NAN } else { f64::from(rng.u32(0..100)) },
        "battery": { "volts": rng.f64(), "cycles": rng.i32(0..3_000) },
        "payload": binary,
        "samples": [rng.i32(0..9), rng.i32(0..9)],
        "counter": mongodb::bson::Timestamp { time: n, increment: 1 },
    }
}

/// A support ticket: messages in it, a requester who is a person, a token that is a secret.
fn ticket(rng: &mut Rng, n: u32) -> Document {
    let message =
        |rng: &mut Rng| doc! { "from": word(rng, "who"), "at": time(rng), "text": word(rng, "m") };
    let messages: Vec<Document> = (0..rng.u32(1..4)).map(|_| message(rng)).collect();
    let watchers: Vec<ObjectId> = (0..rng.u32(1..3)).map(|_| id(rng)).collect();
    doc! {
        "_id": i64::from(n),
        "id": format!("T-{n}"),
        "subject": word(rng, "subject"),
        "priority": one_of(rng, &["low", "normal", "high"]),
        "requester": {
            "firstName": word(rng, "first"), "dateOfBirth": day(rng), "nhsNumber": word(rng, "nhs"),
            "mobilePhone": word(rng, "phone"),
        },
        "accessToken": word(rng, "token"),
        "messages": messages,
        "watchers": watchers,
        "assignee": if n.is_multiple_of(5) { Bson::Null } else { id(rng).into() },
        "closed": n.is_multiple_of(2),
    }
}
