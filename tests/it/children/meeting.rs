//! Arrays' tables beside what else may be asked for of a stream.

use mongodb::bson::{Bson, DateTime, Decimal128, Document, doc, oid::ObjectId};

use super::{COLUMN, document, followed, item, until_equal};
use crate::support::{Config, World, run, stream};

#[tokio::test]
async fn the_elements_of_marked_rows_stay_until_the_document_is_there_again() {
    let many = (0..20).map(|id| document(id, vec![item("a", id), item("b", id)]));
    let (world, _daemon) = followed("on_delete = \"mark\"", many.collect()).await;
    let odd = world.collection("odd");
    odd.delete_many(doc! { "_id": { "$lt": 5 } }).await.unwrap();
    let marked = "select count(*) = 5 from public.odd where _deleted_at is not null";
    world.until("marked", marked).await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.odd_item").await, 40);
    assert_eq!(run(&world, &["compare", "odd"]).0, Some(0));
    odd.insert_many((0..5).map(|id| document(id, vec![item("c", id)]))).await.unwrap();
    assert_eq!(until_equal(&world).await, 35);
}

#[tokio::test]
async fn a_person_is_told_of_elements_and_readers_have_a_view_of_the_living() {
    let many = (0..3).map(|id| document(id, vec![item("a", id), item("b", id)]));
    let (world, _daemon) = followed("on_delete = \"mark\"", many.collect()).await;
    let id = "{\"$numberInt\":\"1\"}";
    let explained = || {
        let (_, told) = run(&world, &["explain", "odd", id, "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        (told["standing"].clone(), told["children"].clone())
    };
    let child = |rows: i32, is_same: bool| {
        serde_json::json!([{ "table": "odd_item", "field": "in.items", "rows": rows, "elements":
            2, "is_same": is_same }])
    };
    assert_eq!(explained(), ("equal".into(), child(2, true)));
    world.execute("delete from public.odd_item where position = 1").await;
    // Different, or behind, as far as the group has not yet come past the read.
    let (standing, children) = explained();
    assert!(standing != "equal" && children == child(1, false), "{standing} {children}");
    let (_, told) = run(&world, &["explain", "odd", id]);
    let line = "child        odd_item holds 1, in.items of the document 2: not the same";
    assert!(told.contains(line), "{told}");
    let (code, views) = run(&world, &["views"]);
    assert_eq!(code, Some(0), "{views}");
    world.execute(&views).await;
    world.collection("odd").delete_one(doc! { "_id": 2 }).await.unwrap();
    let living = "select count(*) = 2 from public.odd_item_view";
    world.until("those of the marked row are not shown", living).await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.odd_item").await, 3);
    assert_eq!(world.column("select sku from public.odd_item_view").await, ["a", "a"]);
}

#[tokio::test]
async fn versions_keep_the_array_in_doc() {
    let (world, _daemon) = followed("history = true", vec![document(1, vec![item("a", 1)])]).await;
    let odd = world.collection("odd");
    for n in 2..5 {
        let items = vec![item("b", n); usize::try_from(n).unwrap()];
        odd.replace_one(doc! { "_id": 1 }, document(1, items)).await.unwrap();
        assert_eq!(until_equal(&world).await, usize::try_from(n).unwrap());
    }
    odd.delete_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(until_equal(&world).await, 0);
    let kept = "select string_agg(jsonb_array_length(doc -> 'in' -> 'items')::text, ' ' order by \
                _valid_from) from public.odd_history";
    assert_eq!(world.scalar::<String>(kept).await, "1 2 3 4");
}

#[tokio::test]
async fn what_is_hidden_of_elements_is_in_no_table() {
    let child = "child = [ { table = \"odd_item\", field = \"in.items\", column = [ { name = \
                 \"sku\", field = \"sku\", type = \"text\", mask = \"first_1\" }, { name = \"n\", \
                 field = \"of.n\", type = \"integer\" } ] } ]";
    let rest = format!("exclude = [\"in.items.secret\"]\n{COLUMN}\n{child}");
    let streams = stream("odd", "odd", &rest);
    let world = World::with(Config { streams, ..Config::default() }).await;
    let secret = || -> Bson {
        doc! { "sku": "c4n4ry-sku", "of": { "n": 7 }, "secret": "c4n4ry-secret" }.into()
    };
    let odd = world.collection("odd");
    odd.insert_many((0..9).map(|id| document(id, vec![secret(), secret()]))).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    odd.update_many(doc! {}, doc! { "$push": { "in.items": secret() } }).await.unwrap();
    let all = "select count(*) = 27 from public.odd_item where sku = 'c' and n = 7";
    world.until("all are there", all).await;
    let seen = "select (select count(*) from public.odd as t where t::text like '%c4n4ry%') + \
                (select count(*) from public.odd_item as k where k::text like '%c4n4ry%')";
    assert_eq!(world.scalar::<i64>(seen).await, 0);
    assert_eq!(run(&world, &["compare", "odd"]).0, Some(0));
}

/// Every type and what becomes of odd values: as in a column of the document's own row.
#[tokio::test]
async fn a_value_in_an_element_becomes_what_it_becomes_in_a_column() {
    let kinds = [
        "text",
        "boolean",
        "integer",
        "bigint",
        "double",
        "numeric",
        "date",
        "timestamptz",
        "jsonb",
        "text[]",
    ];
    let column = |(n, kind): (usize, &&str)| {
        format!("{{ name = \"c{n}\", field = \"v\", type = \"{kind}\" }}")
    };
    let columns: Vec<String> = kinds.iter().enumerate().map(column).collect();
    let zoned = "{ name = \"z\", field = \"v\", type = \"date\", zone = \"Europe/London\" }";
    let columns = format!("{}, {zoned}", columns.join(", "));
    let child = format!(
        "column = [ {columns} ]\nchild = [ {{ table = \"odd_item\", field = \"items\", column = [ \
         {columns} ] }} ]"
    );
    let streams = stream("odd", "odd", &child);
    let world = World::with(Config { streams, ..Config::default() }).await;
    let values = values();
    let number = i64::try_from(values.len()).unwrap();
    let document = |(id, value): (usize, Bson)| {
        let id = i32::try_from(id).unwrap();
        doc! { "_id": id, "v": value.clone(), "items": [{ "v": value }] }
    };
    let documents: Vec<Document> = values.into_iter().enumerate().map(document).collect();
    world.collection("odd").insert_many(documents).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    let both = |columns: &str| {
        format!(
            "select {columns} from public.odd as t join public.odd_item as k on k.parent_id = \
                 t.id"
        )
    };
    assert_eq!(world.scalar::<i64>(&both("count(*)")).await, number);
    let names: Vec<String> = (0..kinds.len()).map(|n| format!("c{n}")).collect();
    for name in names.iter().map(String::as_str).chain(["z"]) {
        let differ =
            both("string_agg(t.id || ': ' || t.NAME::text || ' | ' || k.NAME::text, e'\\n')")
                + " where t.NAME is distinct from k.NAME";
        let differ: Option<String> = world.scalar(&differ.replace("NAME", name)).await;
        assert_eq!(differ, None, "{name}");
        let there = format!("select count({name}) from public.odd_item");
        assert!(world.scalar::<i64>(&there).await > 0, "{name} has a value");
    }
    let (code, told) = run(&world, &["compare", "odd"]);
    assert_eq!(code, Some(0), "{told}");
}

fn values() -> Vec<Bson> {
    let decimal = |text: &str| Bson::Decimal128(text.parse::<Decimal128>().unwrap());
    let date = |millis: i64| Bson::DateTime(DateTime::from_millis(millis));
    let mut values: Vec<Bson> = vec![
        Bson::Null,
        "".into(),
        "plain".into(),
        "quo\"te \\ back \u{1}\u{7f} \n\t { [ ] } , ' \u{2028} \u{fffd} é 𝄞 {NULL}".into(),
        "nul \0 in it".into(),
        "null".into(),
        true.into(),
        false.into(),
        0.into(),
        i32::MIN.into(),
        i32::MAX.into(),
        i64::MIN.into(),
        i64::MAX.into(),
        (1_i64 << 53).into(),
        0.1.into(),
        (-0.0).into(),
        1e300.into(),
        5e-324.into(),
        f64::MAX.into(),
        f64::NAN.into(),
        f64::INFINITY.into(),
        f64::NEG_INFINITY.into(),
        7.0.into(),
        Bson::ObjectId(ObjectId::from_bytes([7; 12])),
        doc! { "a": { "$b": [1, 2.5, null, "x"] }, "": 1 }.into(),
        Bson::Array(vec![]),
        Bson::Array(vec!["a".into(), Bson::Null, "b\"\\,{}".into(), "NULL".into(), 7.into()]),
        Bson::Array(vec![vec![1].into()]),
    ];
    for text in ["1.50", "1E+3", "-0", "9.999999999999999999999999999999999E+6144", "NaN"] {
        values.push(decimal(text));
    }
    for text in ["Infinity", "-Infinity", "1E-6176", "123456789012345678901234567890.1234"] {
        values.push(decimal(text));
    }
    // Now, before 1970, a summer's midnight in London, 44 BC, the first year, the last of each
    // type, and beyond.
    for millis in [
        1_795_342_490_634,
        -1,
        1_687_302_000_000,
        -63_549_360_000_000,
        -62_135_596_800_000,
        -62_135_596_800_001,
        253_402_300_800_000,
        9_224_318_015_999_999,
        9_224_318_016_000_000,
        -210_866_803_200_000,
        -210_866_803_200_001,
        i64::MAX,
        i64::MIN,
    ] {
        values.push(date(millis));
    }
    values
}
