//! A column that is called otherwise is renamed in each of its tables, so that versions keep it.

use mongodb::bson::{Bson, doc};

use crate::support::{Config, World, run, stream};

fn config(column: &str, of_child: &str) -> Config {
    let child = format!(
        "child = [ {{ table = \"odd_item\", field = \"items\", column = [ {{ name = \
         \"{of_child}\", field = \"k\", type = \"text\" }} ] }} ]"
    );
    let columns =
        format!("column = [ {{ name = \"{column}\", field = \"v\", type = \"integer\" }} ]");
    let streams = stream("odd", "odd", &format!("history = true\n{columns}\n{child}"));
    Config { streams, ..Config::default() }
}

#[tokio::test]
async fn check_says_of_every_table_how_a_column_is_renamed_and_no_version_loses_it() {
    let world = World::with(config("v", "k")).await;
    let odd = world.collection("odd");
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    for v in [1, 2] {
        let item: Bson = doc! { "k": "x" }.into();
        let document = doc! { "v": v, "items": [item] };
        odd.replace_one(doc! { "_id": "a" }, document).upsert(true).await.unwrap();
        world.until_equal("odd", "public.odd").await;
    }
    assert_eq!(daemon.stop().0, Some(0));
    // As a reader may have it.
    world.execute("create view public.odd_view as select id, v from public.odd").await;
    world.configure(&config("vv", "kk"));
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    for (table, old, new) in
        [("odd", "v", "vv"), ("odd_history", "v", "vv"), ("odd_item", "k", "kk")]
    {
        let rename =
            format!("alter table \"public\".\"{table}\" rename column \"{old}\" to \"{new}\";");
        assert!(told.contains(&rename), "{told}");
        world.execute(&rename).await;
    }
    assert!(!told.contains("drop column"), "{told}");
    let _daemon = world.start();
    world.until("is walked", "select count(*) = 3 from public.odd_history where vv > 0").await;
    let kept = world.column("select concat(vv) from public.odd_history order by _valid_from").await;
    assert_eq!(kept, ["1", "2", "2"]);
    assert_eq!(world.scalar::<String>("select kk from public.odd_item").await, "x");
}

/// What `check` says is run as it is: a view of the column is in nobody's way.
#[tokio::test]
async fn what_drops_a_column_drops_the_views_of_it_first() {
    let world = World::with(config("v", "k")).await;
    world.collection("odd").insert_one(doc! { "_id": "a", "v": 1 }).await.unwrap();
    let mut daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    let views = run(&world, &["views"]).1;
    world.execute(&views).await;
    let mut columns = config("v", "k");
    columns.streams = columns.streams.replace("integer", "text");
    world.configure(&columns);
    let (_, told) = run(&world, &["check"]);
    let sql =
        "drop view \"public\".\"odd_view\"; alter table \"public\".\"odd\" drop column \"v\";";
    assert!(told.contains(sql), "{told}");
    world.execute(sql).await;
    columns.streams = columns.streams.replace("\"v\", field", "\"w\", field");
    world.configure(&columns);
    world.execute("create view public.reader as select parent_id from public.odd_item").await;
    world.execute("alter table public.odd add column x text").await;
    world.execute("create view public.\"of x\" as select x from public.odd").await;
    let (_, told) = run(&world, &["check"]);
    let sql = "drop view \"public\".\"of x\"; alter table \"public\".\"odd\" drop column \"x\";";
    assert!(told.contains(sql) && !told.contains("reader"), "{told}");
    world.execute(sql).await;
}
