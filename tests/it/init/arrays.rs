//! `init --children` and `--no-doc`: tables of arrays' elements, and columns that are all there is,
//! taken as they were proposed.

use mongodb::bson::{Bson, Document, doc};
use serde_json::Value;

use super::{CANARY, Newcomer, data, nested};
use crate::support::text;

/// Those of the data sets that have arrays of documents.
fn sets() -> Vec<(&'static str, Vec<Document>)> {
    let plain = data::all().into_iter().filter(|(name, _)| ["orders", "tickets"].contains(name));
    plain.chain(nested::all()).collect()
}

async fn filled() -> Newcomer {
    let newcomer = Newcomer::new().await;
    for (name, documents) in sets() {
        newcomer.insert(name, documents).await;
    }
    newcomer
}

/// What the tables of arrays are, by what they hold: stream, table, field.
fn children(newcomer: &Newcomer, arguments: &[&str]) -> Vec<[String; 3]> {
    let output = newcomer.run(&[&["init", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &Value, key: &str| value[key].as_array().unwrap().clone();
    let word = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let mut all = Vec::new();
    for stream in list(&told, "streams") {
        for child in list(&stream, "children") {
            assert!(!list(&child, "columns").is_empty(), "{child:#}");
            all.push([word(&stream, "table"), word(&child, "table"), word(&child, "field")]);
        }
    }
    all
}

/// How many elements the arrays of a field have.
fn elements(documents: &[Document], field: &str) -> i64 {
    let number = |document: &Document| {
        let mut value = Bson::from(document.clone());
        for name in field.split('.') {
            value = value.as_document().and_then(|inner| inner.get(name)).unwrap().clone();
        }
        i64::try_from(value.as_array().unwrap().len()).unwrap()
    };
    documents.iter().filter(|document| has(document, field)).map(number).sum()
}

fn has(document: &Document, field: &str) -> bool {
    document.contains_key(field.split('.').next().unwrap())
}

/// Every text that a value holds, at any depth.
fn texts(value: &Bson, into: &mut Vec<String>) {
    match value {
        Bson::String(text) if text.contains(CANARY) => into.push(text.clone()),
        Bson::Document(document) => document.values().for_each(|value| texts(value, into)),
        Bson::Array(array) => array.iter().for_each(|value| texts(value, into)),
        _ => {}
    }
}

/// The tables of arrays have as many rows as the source has elements.
async fn check_elements(newcomer: &Newcomer, children: &[[String; 3]]) {
    for (name, documents) in sets() {
        for [_, table, field] in children.iter().filter(|[stream, ..]| stream == name) {
            let rows: i64 = newcomer.world.scalar(&format!("select count(*) from {table}")).await;
            let elements = elements(&documents, field);
            println!("{name}: {table} {rows} rows, {elements} elements");
            assert!(rows > 0, "{table}");
            assert_eq!(rows, elements, "{table}");
        }
    }
}

fn streams() -> Vec<(&'static str, u64)> {
    sets().into_iter().map(|(name, documents)| (name, documents.len() as u64)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_of_documents_become_tables_that_hold_every_element() {
    let newcomer = filled().await;
    let proposed = newcomer.init(&["--all", "--children"]);
    assert!(!proposed.contains(CANARY), "what documents hold was told:\n{proposed}");
    insta::assert_snapshot!("children", proposed);
    let children = children(&newcomer, &["--all", "--children"]);
    assert_eq!(children.len(), 10, "{children:?}");
    let daemon = newcomer.follow(&streams()).await;
    check_elements(&newcomer, &children).await;
    // In the order of the document, of whatever type, with names of their own.
    let wrong: i64 = newcomer
        .world
        .scalar(
            "select count(*) from stays_reviews as k join stays as s on s.id = k.parent_id cross \
             join lateral (select s.doc -> 'reviews' -> k.position as e) as of where k.id <> e ->> \
             '_id' or k.position_field <> (e ->> 'position')::int or k.date <> (e ->> \
             'date')::timestamptz or to_jsonb(k.keywords) <> e -> 'keywords' or k.photos <> e -> \
             'photos' or k.access_token <> e ->> 'accessToken'",
        )
        .await;
    assert_eq!(wrong, 0);
    let rounds: (i64, i64, i64) = newcomer
        .world
        .row(
            "select count(raised_amount), count(round_code), sum(jsonb_array_length(investments)) \
             from companies_funding_rounds",
        )
        .await;
    assert!(rounds.0 == rounds.1 && rounds.2 > rounds.0 / 2, "{rounds:?}");
    // What comes later is followed like what was there.
    let orders = newcomer.world.collection("orders");
    let push = doc! { "$push": { "items": { "sku": "later", "quantity": 7, "price": 1.5 } } };
    orders.update_many(doc! { "isGift": true }, push).await.unwrap();
    let gifts = orders.count_documents(doc! { "isGift": true }).await.unwrap();
    let later =
        format!("select count(*) = {gifts} from orders_items where sku = 'later' and quantity = 7");
    newcomer.world.until("every gift has another item", &later).await;
    let compared = newcomer.configured(&["compare", "orders"]);
    assert_eq!(compared.status.code(), Some(0), "{}", text(&compared));
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_doc_the_columns_and_tables_hold_every_text_there_is() {
    for arguments in [&["--all", "--no-doc", "--children"][..], &["--all", "--no-doc"]] {
        let newcomer = filled().await;
        let proposed = newcomer.init(arguments);
        assert!(!proposed.contains(CANARY), "what documents hold was told:\n{proposed}");
        assert_eq!(proposed.matches("\ndoc = false\n").count(), sets().len(), "{proposed}");
        assert!(!proposed.contains("kept nowhere"), "{proposed}");
        let children = children(&newcomer, arguments);
        if arguments.len() == 3 {
            insta::assert_snapshot!("children_no_doc", proposed);
        }
        assert_eq!(children.len(), if arguments.len() == 3 { 10 } else { 0 }, "{children:?}");
        let daemon = newcomer.follow(&streams()).await;
        check_elements(&newcomer, &children).await;
        for (name, documents) in sets() {
            let mut all = String::new();
            let tables = children.iter().filter(|[stream, ..]| stream == name);
            for table in tables.map(|[_, table, _]| &**table).chain([name]) {
                let rows = format!("select t::text from {table} as t");
                all.extend(newcomer.world.column(&rows).await);
            }
            let mut seen = Vec::new();
            for document in documents {
                texts(&document.into(), &mut seen);
            }
            let lost: Vec<&String> = seen.iter().filter(|text| !all.contains(&***text)).collect();
            println!("{name}: {} texts, {} lost", seen.len(), lost.len());
            assert!(seen.len() > 300 && lost.is_empty(), "{name}: {lost:?}");
        }
        let columns = "select count(*) from pg_attribute where attname = 'doc' and attrelid in \
                       (select oid from pg_class where relnamespace = 'public'::regnamespace)";
        assert_eq!(newcomer.world.scalar::<i64>(columns).await, 0);
        let kept: (i64, i64) = newcomer.world.row("select count(class), count(v) from stays").await;
        assert_eq!(kept, (300, 300));
        daemon.kill();
    }
}

/// An element that is no document is an empty row; where there is no doc, the column has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_is_odd_nothing_is_lost_without_doc_but_what_is_named() {
    let newcomer = Newcomer::new().await;
    let steps = |n: i32| {
        let odd = if n % 30 == 0 { Bson::from(format!("odd {n}")) } else { doc! { "a": n }.into() };
        let steps = vec![Bson::from(doc! { "a": n }), doc! { "a": n }.into(), odd];
        let far = mongodb::bson::DateTime::from_millis(if n == 7 { i64::MAX } else { n.into() });
        doc! { "_id": n, "steps": steps, "in": { "events": [{ "on": n }] }, "none": [], "far": far }
    };
    newcomer.insert("main", (0..300).map(steps).collect()).await;
    let mut wide = doc! { "_id": 1, "mail@example": 1, "": 2 };
    wide.extend(
        (0..1_000).map(|field| (format!("wide{field:03}"), format!("{CANARY} {field}").into())),
    );
    newcomer.insert("wide", vec![wide]).await;
    newcomer.insert("main_steps", vec![doc! { "_id": 1 }]).await;
    newcomer.world.source.create_collection("nothing").await.unwrap();
    let first = newcomer.init(&["--collection", "wide", "--no-doc"]);
    assert!(first.contains("doc = false") && !first.contains("main"), "{first}");
    let add = ["--add", "main", "--add", "main_steps", "--add", "nothing"];
    let proposed = newcomer.init(&[&add[..], &["--no-doc", "--children"]].concat());
    assert_eq!(proposed.matches("name = \"wide").count(), 401);
    let but_wide = proposed.lines().filter(|line| !line.starts_with("  { name = \"wide"));
    insta::assert_snapshot!("odd_no_doc", but_wide.collect::<Vec<_>>().join("\n"));
    let daemon = newcomer.start();
    for stream in ["main_collection", "wide", "main_steps", "nothing"] {
        daemon.until_phase(stream, "streaming").await;
        let compared = newcomer.configured(&["compare", stream]);
        assert_eq!(compared.status.code(), Some(0), "{}", text(&compared));
    }
    let rows: (i64, i64, i64) = newcomer
        .world
        .row(
            "select (select count(*) from main_steps_2 where a is not null), (select count(*) from \
             main_steps_2 where a is null), (select count(*) from main where steps -> 2 #>> '{}' \
             like 'odd %')",
        )
        .await;
    assert_eq!(rows, (890, 10, 10));
    let events: i64 = newcomer.world.scalar("select count(*) from main_in_events").await;
    assert_eq!(events, 300);
    let far: i64 = newcomer.world.scalar("select count(far) from main").await;
    assert_eq!(far, 300);
    let last: String = newcomer.world.scalar("select wide399 from wide").await;
    assert_eq!(last, format!("{CANARY} 399"));
    daemon.kill();
}
