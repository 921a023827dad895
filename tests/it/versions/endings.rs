//! A version of now is a row's: what went or changed without a word to the table of versions ends
//! there all the same, once it is known.

use mongodb::bson::doc;

use super::{assert_versions, config, living, versions};
use crate::refusals::letters;
use crate::support::{World, run, state};

const KINDS: [&str; 2] = ["history = true", "history = true\non_delete = \"mark\""];

/// What the table was at the end of this second is what it is.
async fn assert_as_of_now(world: &World, rest: &str) {
    let shown = "select concat(string_agg(concat(id, '=', n), ',' order by id)) from ";
    let was: String = world.scalar(&format!("{shown}public.odd_as_of(now()) as was")).await;
    assert_eq!(was, world.scalar::<String>(&format!("{shown}{}", living(rest))).await, "{rest}");
    assert_versions(world, rest).await;
}

async fn of(rest: &str) -> World {
    let world = World::with(config(rest, "")).await;
    let odd = world.collection("odd");
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    odd.insert_many((0..6).map(|n| doc! { "_id": n.to_string(), "n": n })).await.unwrap();
    world.until_equal("odd", living(rest)).await;
    assert_eq!(daemon.stop().0, Some(0));
    world
}

#[tokio::test]
async fn what_went_or_changed_while_versions_were_not_kept_has_none_of_now() {
    for rest in KINDS {
        let world = of(rest).await;
        let odd = world.collection("odd");
        world.configure(&config(rest.trim_start_matches("history = true"), ""));
        let mut daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        let drops = "drop function \"public\".\"odd_as_of\"(timestamptz); drop table \
                     \"public\".\"odd_history\";";
        for command in ["check", "migrate"] {
            let (code, told) = run(&world, &[command]);
            assert!(code == Some(0) && told.contains(drops), "{command}: {told}");
        }
        odd.delete_many(doc! { "_id": { "$in": ["1", "2"] } }).await.unwrap();
        odd.insert_one(doc! { "_id": "2", "n": 22 }).await.unwrap();
        odd.update_one(doc! { "_id": "3" }, doc! { "$set": { "n": 33 } }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        assert_eq!(daemon.stop().0, Some(0));
        world.configure(&config(rest, ""));
        assert!(!run(&world, &["check"]).1.contains("drop function"), "it is kept again");
        let mut daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        assert_as_of_now(&world, rest).await;
        for (id, kept) in [("1", "1 was insert"), ("2", "2 was insert"), ("0", "0 now insert")] {
            assert_eq!(versions(&world, id).await, [kept], "{rest}");
        }
        odd.update_one(doc! { "_id": "3" }, doc! { "$set": { "n": 34 } }).await.unwrap();
        odd.delete_one(doc! { "_id": "2" }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        let all = ["3 was insert", "33 was snapshot", "34 now update"];
        assert_eq!(versions(&world, "3").await, all, "{rest}");
        assert_eq!(versions(&world, "2").await, ["2 was insert", "22 was snapshot"], "{rest}");
        assert_as_of_now(&world, rest).await;
        // It is looked for once: a version that is no row's by hand is not.
        assert_eq!(daemon.stop().0, Some(0));
        world.execute("delete from public.odd where id = '5'").await;
        let daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        assert_eq!(versions(&world, "5").await, ["5 now insert"], "{rest}");
    }
}

#[tokio::test]
async fn a_walk_ends_the_versions_of_rows_that_were_gone_before_it() {
    for rest in KINDS {
        let world = of(rest).await;
        let odd = world.collection("odd");
        odd.delete_one(doc! { "_id": "1" }).await.unwrap();
        world.execute("truncate public.odd").await;
        state::lose_position(&world, "odd").await;
        let daemon = world.start();
        world.until_equal("odd", living(rest)).await;
        daemon
            .until("odd", "is repaired", |s| s["resync"].is_null() && s["phase"] == "streaming")
            .await;
        assert_eq!(versions(&world, "1").await, ["1 was insert"], "{rest}");
        assert_eq!(versions(&world, "2").await, ["2 was insert", "2 now resync"], "{rest}");
        assert_as_of_now(&world, rest).await;
    }
}

#[tokio::test]
async fn a_deletion_ends_the_version_though_there_is_no_row_any_more() {
    for rest in KINDS {
        let world = of(rest).await;
        let odd = world.collection("odd");
        let daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        world.execute("delete from public.odd where id in ('1', '2')").await;
        odd.delete_many(doc! { "_id": { "$in": ["1", "3"] } }).await.unwrap();
        let ended = "select count(*) = 0 from public.odd_history where id in ('1', '3') and \
                     _valid_to is null";
        world.until("ended", ended).await;
        assert_eq!(versions(&world, "1").await, ["1 was insert"], "{rest}");
        // Whose document is there still has its row again, by its next change or a walk.
        assert_eq!(versions(&world, "2").await, ["2 now insert"], "{rest}");
        odd.update_one(doc! { "_id": "2" }, doc! { "$set": { "n": 22 } }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        assert_eq!(versions(&world, "2").await, ["2 was insert", "22 now insert"], "{rest}");
        assert_as_of_now(&world, rest).await;
    }
}

#[tokio::test]
async fn a_first_snapshot_ends_the_versions_that_were_there_before_it() {
    for rest in KINDS {
        let world = World::with(config(rest, "")).await;
        assert_eq!(run(&world, &["migrate"]).0, Some(0));
        let left = "insert into public.odd_history (id, n, _valid_from, _operation) values \
                    ('1', 9, 7, 'insert'), ('x', 9, 7, 'insert')";
        world.execute(left).await;
        world.collection("odd").insert_one(doc! { "_id": "1", "n": 1 }).await.unwrap();
        let _daemon = world.start();
        world.until_equal("odd", living(rest)).await;
        assert_as_of_now(&world, rest).await;
        assert_eq!(versions(&world, "x").await, ["9 was insert"], "{rest}");
    }
}

#[tokio::test]
async fn documents_that_are_named_end_their_versions_though_neither_end_has_them() {
    for rest in KINDS {
        let world = of(rest).await;
        let odd = world.collection("odd");
        odd.delete_many(doc! { "_id": { "$in": ["1", "2"] } }).await.unwrap();
        odd.update_one(doc! { "_id": "3" }, doc! { "$set": { "n": 33 } }).await.unwrap();
        // As if all that had been missed.
        world.execute("delete from public.odd where id in ('1', '2', '3')").await;
        state::lose_position(&world, "odd").await;
        world.configure(&config(rest, "resync.automatic = false"));
        let daemon = world.start();
        daemon.until_phase("odd", "halted").await;
        let ids = ["resync", "odd", "--ids", "1,3,9", "--reason", "x"];
        let (code, told) = run(&world, &ids);
        let ends = "ends         1 version of now, whose documents neither end has";
        assert!(code == Some(0) && told.contains(ends), "{told}");
        assert!(told.contains("deletes      0 rows") && told.contains("unknown      1 "), "{told}");
        let (code, told) = run(&world, &[&ids[..], &["--execute"]].concat());
        assert_eq!(code, Some(0), "{told}");
        assert_eq!(versions(&world, "1").await, ["1 was insert"], "{rest}");
        assert_eq!(versions(&world, "3").await, ["3 was insert", "33 now resync"], "{rest}");
        // Nobody named it.
        assert_eq!(versions(&world, "2").await, ["2 now insert"], "{rest}");
        let alone = ["resync", "odd", "--ids", "2", "--reason", "x", "--execute"];
        let (code, told) = run(&world, &alone);
        assert_eq!(code, Some(0), "{told}");
        assert_versions(&world, rest).await;
        let (code, told) = run(&world, &alone[..6]);
        assert!(code == Some(1) && told.contains("neither end has any"), "{told}");
        drop(daemon);
    }
}

#[tokio::test]
async fn a_letter_that_is_tried_again_ends_the_version_though_neither_end_has_the_document() {
    let world = of(KINDS[0]).await;
    let odd = world.collection("odd");
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise \
                  exception 'no'; end $$; create trigger refuse before delete on public.odd for \
                  each row execute function refuse()";
    world.execute(refuse).await;
    let _daemon = world.start();
    odd.delete_one(doc! { "_id": "1" }).await.unwrap();
    letters(&world, 1).await;
    world.execute("drop trigger refuse on public.odd; delete from public.odd where id = '1'").await;
    assert_eq!(versions(&world, "1").await, ["1 now insert"]);
    let id: String = world.scalar("select id::text from tidemark.dead_letter").await;
    let (code, told) = run(&world, &["dead-letter", "retry", &id, "--reason", "x", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    assert_as_of_now(&world, KINDS[0]).await;
    assert_eq!(versions(&world, "1").await, ["1 was insert"]);
}
