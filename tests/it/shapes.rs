//! Values and shapes that a document may have: guarantees 1 and 8 where `_id`s change their type, 11 where documents are
//! large or have a shape of their own, 12 where keys are data.

use std::str::FromStr;

use mongodb::bson::{Bson, Decimal128, doc};

use crate::support::{Config, World, stream};

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(Decimal128::from_str(text).unwrap())
}

/// Values the server takes for one `_id`.
fn equals(number: i32) -> Vec<Bson> {
    let (long, double) = (i64::from(number), f64::from(number));
    let nested = |inner: Bson| Bson::Document(doc! { "n": [inner], "of": number });
    match number % 3 {
        0 => vec![nested(number.into()), nested(long.into()), nested(double.into())],
        1 => vec![format!("s{number}").into(), Bson::Symbol(format!("s{number}"))],
        _ => {
            let decimals = [decimal(&format!("{number}")), decimal(&format!("{number}.00"))];
            [number.into(), long.into(), double.into()].into_iter().chain(decimals).collect()
        }
    }
}

/// Guarantee 1: one document, one row, whatever type its `_id` is replaced by; live, walked and repaired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_replaced_by_an_equal_one_of_another_type_is_one_row() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let extra = "resync.chunk_documents = 7".to_owned();
    let world = World::with(Config { streams: stream("odd", "odd", ""), extra }).await;
    let odd = world.collection("odd");
    let first: Vec<_> = (1..=60).map(|n| doc! { "_id": equals(n)[0].clone(), "n": 0 }).collect();
    odd.insert_many(first).await.unwrap();
    odd.insert_many([doc! { "_id": -0.0 }, doc! { "_id": f64::NAN }]).await.unwrap();
    let mut daemon = world.start();
    for round in 0..3 {
        for turn in 0..300 {
            let number = rng.i32(1..=60);
            let of = equals(number);
            let (by, to) = (of[rng.usize(..of.len())].clone(), of[rng.usize(..of.len())].clone());
            let filter = doc! { "_id": by };
            match rng.u8(..10) {
                0 => drop(odd.delete_one(filter).await.unwrap()),
                1..4 => drop(odd.update_one(filter, doc! { "$set": { "n": turn } }).await.unwrap()),
                _ => {
                    let replacement = doc! { "_id": to, "n": turn };
                    let update = doc! { "q": filter, "u": replacement, "upsert": rng.bool() };
                    // An upsert by one type with a document of another is refused; nothing else is.
                    let command = doc! { "update": "odd", "updates": [update] };
                    world.source.run_command(command).await.unwrap();
                }
            }
        }
        for (by, to) in [(0.0, Bson::Int32(0)), (f64::NAN, decimal("NaN"))] {
            let update = doc! { "q": { "_id": by }, "u": { "_id": to, "round": round } };
            world.source.run_command(doc! { "update": "odd", "updates": [update] }).await.unwrap();
        }
        world.until_equal("odd", "public.odd").await;
        match round {
            // Killed: what was not committed is read again.
            0 => {
                daemon.kill();
                daemon = world.start();
            }
            // Changes nobody read: a walk repairs them, and its sweep takes the rows of before.
            1 => {
                assert_eq!(daemon.stop().0, Some(0));
                for number in 1..=60 {
                    let of = equals(number);
                    let update = doc! { "q": { "_id": &of[0] }, "u": { "_id": &of[1], "n": -1 } };
                    world.source.run_command(doc! { "update": "odd", "updates": [update] }).await.unwrap();
                }
                world.execute("update tidemark.checkpoint set resume_token = null").await;
                daemon = world.start();
            }
            _ => {}
        }
    }
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
}
