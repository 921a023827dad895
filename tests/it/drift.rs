//! Columns and the fields they read: what fits is written, what differs is counted and told.

use mongodb::bson::{DateTime, doc};

use crate::support::{Config, Daemon, World, eventually, run, stream};

#[tokio::test]
async fn typed_columns_hold_what_fits_and_drift_is_counted() {
    let columns = "column = [
        { name = \"c_text\", field = \"text\", type = \"text\", aliases = [\"old.text\"] },
        { name = \"c_bool\", field = \"bool\", type = \"boolean\" },
        { name = \"c_int\", field = \"int\", type = \"integer\", required = true },
        { name = \"c_big\", field = \"big\", type = \"bigint\" },
        { name = \"c_double\", field = \"double\", type = \"double\" },
        { name = \"c_numeric\", field = \"numeric\", type = \"numeric\" },
        { name = \"c_date\", field = \"date\", type = \"date\" },
        { name = \"c_at\", field = \"at\", type = \"timestamptz\" },
        { name = \"c_json\", field = \"deep.json\", type = \"jsonb\" },
        { name = \"c_list\", field = \"list\", type = \"text[]\" } ]";
    let world =
        World::with(Config { streams: stream("typed", "typed", columns), ..Config::default() })
            .await;
    let decimal: mongodb::bson::Decimal128 = "12345678901234567890.1234567890".parse().unwrap();
    let fits = |id: &str| {
        doc! {
        "_id": id, "old": { "text": "é\0" }, "bool": true, "int": 7.0, "big": 1_i64 << 60,
        "double": 2.5, "numeric": decimal,
        "date": DateTime::from_millis(1_700_000_000_000),
        "at": DateTime::from_millis(1_700_000_000_123),
        "deep": { "json": [1, { "a": null }] },
        "list": ["a", null, "b\"\\,{}", ""] }
    };
    // By COPY in the snapshot, by unnest in the stream: the same columns.
    world.collection("typed").insert_one(fits("copy")).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("typed", "streaming").await;
    world.collection("typed").insert_one(fits("unnest")).await.unwrap();
    world
        .collection("typed")
        .insert_one(
            doc! { "_id": "drift", "text": {}, "bool": "yes", "date": "2020-01-01", "list": [] },
        )
        .await
        .unwrap();
    world.until_equal("typed", "public.typed").await;
    let row = "select concat_ws('|', c_text, c_bool, c_int, c_big, c_double, c_numeric, c_date, \
               c_at at time zone 'utc', c_json, c_list) from public.typed where id = ";
    let expected = "é\u{fffd}|t|7|1152921504606846976|2.5|12345678901234567890.1234567890|\
                    2023-11-14|2023-11-14 22:13:20.123|[1, {\"a\": null}]|\
                    {a,NULL,\"b\\\"\\\\,{}\",\"\"}";
    for id in ["copy", "unnest"] {
        assert_eq!(world.scalar::<String>(&format!("{row}'{id}'")).await, expected, "{id}");
    }
    assert_eq!(world.scalar::<String>(&format!("{row}'drift'")).await, "{}");
    let status = daemon
        .until("typed", "drift is counted", |s| s["drift"].as_array().unwrap().len() == 4)
        .await;
    let drift: Vec<String> = status["drift"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            format!(
                "{} {} {}",
                d["column"].as_str().unwrap(),
                d["kind"].as_str().unwrap(),
                d["documents"]
            )
        })
        .collect();
    assert_eq!(drift, ["c_bool type 1", "c_date type 1", "c_int missing 1", "c_text type 1"]);
    assert_eq!(daemon.metric("tidemark_drift_fields{kind=\"type\",stream=\"typed\"}").await, 3.0);
    assert!(daemon.metric("tidemark_characters_replaced_total{stream=\"typed\"}").await >= 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_field_is_told_with_its_new_name_and_mended_by_it() {
    let columns = |aliases: &str| {
        let column = format!(
            "{{ name = \"body\", field = \"designateBody\", type = \"text\", aliases = [{aliases}] \
             }}"
        );
        stream("doctor", "doctorsForDB", &format!("column = [ {column} ]"))
    };
    let world = World::with(Config { streams: columns(""), ..Config::default() }).await;
    let doctors = world.collection("doctorsForDB");
    let all: Vec<_> = (0..1500)
        .map(|n| doc! { "_id": n.to_string(), "designateBody": "1-AIIDWI", "_class": "x" })
        .collect();
    doctors.insert_many(all).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    doctors
        .update_many(doc! {}, doc! { "$rename": { "designateBody": "designatedBodyCode" } })
        .await
        .unwrap();

    let status = daemon
        .until("doctor", "the rename is seen", |s| {
            said(s, "vanished")["likely_new_name"].is_string()
                && said(s, "unknown")["documents"].as_u64() > Some(1000)
        })
        .await;
    assert_eq!(said(&status, "vanished")["likely_new_name"], "designatedBodyCode");
    assert_eq!(said(&status, "vanished")["column"], "body");
    let unknown = said(&status, "unknown");
    assert!(
        unknown["field"] == "designatedBodyCode" && unknown["documents"].as_u64() > Some(1000),
        "{status:#}"
    );
    assert_eq!(
        status["fields"]["unmapped"],
        serde_json::json!(["_class"]),
        "what was always there is nothing new"
    );
    told_once(&world, &daemon).await;
    world.until_equal("doctorsForDB", "public.doctor").await;
    daemon.stop();

    // With the new name beside the old one, both are read; what was missed is filled by the walk
    // that another mapping begins.
    let mended =
        world.beside(&Config { streams: columns("\"designatedBodyCode\""), ..Config::default() });
    let daemon = mended.start();
    // Until it leads, it shows what the leader before it left.
    let follows = |s: &serde_json::Value| s["leader"] == true && s["phase"] == "streaming";
    let status = daemon.until("doctor", "it follows", follows).await;
    assert_eq!(status["drift"], serde_json::json!([]));
    let walked = "select state = 'completed' from tidemark.resync where reason = 'mapping_changed'";
    mended.until("what was missed is filled", walked).await;
    doctors.insert_one(doc! { "_id": "new", "designatedBodyCode": "1-NEW" }).await.unwrap();
    mended.until_equal("doctorsForDB", "public.doctor").await;
    let bodies = mended.column("select distinct body from public.doctor order by body").await;
    assert_eq!(bodies, ["1-AIIDWI", "1-NEW"]);
    assert_eq!(mended.scalar::<i64>("select count(*) from tidemark.resync").await, 2);
}

/// What the status says of the fields that differ in this way: the first of them.
fn said(status: &serde_json::Value, kind: &str) -> serde_json::Value {
    let found = status["drift"].as_array().unwrap().iter().find(|drift| drift["kind"] == kind);
    found.cloned().unwrap_or_default()
}

/// The log, an incident and the command say that the field was renamed, and the log only once.
async fn told_once(world: &World, daemon: &Daemon) {
    // The log is written by a thread of its own.
    let logged = || daemon.log().matches("differs from its configuration").count();
    eventually("each is told", async || logged() >= 2).await;
    world
        .until(
            "an incident says so",
            "select count(*) = 1 from tidemark.incident where code = 'field_drift' \
        and summary like '%likely renamed to designatedBodyCode%'",
        )
        .await;
    let shown = async || run(world, &["status"]).1.contains("likely renamed to designatedBodyCode");
    eventually("the command says so", shown).await;
    assert_eq!(logged(), 2, "each is told once: {}", daemon.log());
}
