//! Changes that are read once more, in other batches, leave the versions of every moment.

use fastrand::Rng;
use mongodb::bson::doc;

use super::{NEVER, assert_none, config, living};
use crate::support::{World, state};

/// What the table was at each of these times, as its versions tell.
async fn as_of(world: &World, times: &[i64]) -> Vec<String> {
    let mut told = Vec::new();
    for time in times {
        let sql = format!(
            "select concat({time}, ':', string_agg(concat(id, '=', n), ',' order by id)) from \
             public.odd_history where _valid_from <= {time} and (_valid_to > {time} or _valid_to \
             is null)"
        );
        told.push(world.scalar(&sql).await);
    }
    told
}

/// Of rows that have gone since, or that somebody took away.
#[tokio::test]
async fn what_was_at_a_time_is_the_same_after_a_replay_in_coarser_batches() {
    for (rest, by_hand) in [
        ("history = true", "select 1"),
        ("history = true", "delete from public.odd where id <> 'seen'"),
        ("history = true\non_delete = \"mark\"", "delete from public.odd where id <> 'seen'"),
    ] {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = Rng::with_seed(seed);
        let world = World::with(config(rest, "batch.events_max = 3")).await;
        let odd = world.collection("odd");
        let mut daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        world.execute(&state::keep_positions()).await;
        for n in 0..40 {
            let key = doc! { "_id": rng.u32(0..4).to_string() };
            if rng.u8(0..3) == 0 {
                odd.delete_one(key).await.unwrap();
            } else {
                odd.update_one(key, doc! { "$set": { "n": n } }).upsert(true).await.unwrap();
            }
            world.until_equal("odd", living(rest)).await;
        }
        odd.delete_many(doc! { "_id": { "$ne": "0" } }).await.unwrap();
        odd.insert_one(doc! { "_id": "seen" }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        let times: Vec<i64> = sqlx::query_scalar(
            "select _valid_from from public.odd_history union select _valid_to from \
             public.odd_history where _valid_to is not null order by 1",
        )
        .fetch_all(&mut world.pg().await)
        .await
        .unwrap();
        let before = as_of(&world, &times).await;
        assert_eq!(daemon.stop().0, Some(0));
        world.execute(by_hand).await;
        world.execute(&state::take_positions_back()).await;
        let _daemon = world.start();
        odd.insert_one(doc! { "_id": "last" }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        assert_eq!(as_of(&world, &times).await, before, "{rest}, {by_hand}");
        assert_none(&world, rest, &NEVER[..3]).await;
    }
}
