mod arrays;

use bson::{Bson, DateTime, Document, doc};
use proptest::prelude::*;

use super::fields::Fields;
use super::proposal::{COLUMNS_MAX, ColumnProposal, Proposed, Wishes, propose};
use crate::model::bson::Doc;
use crate::model::value::{Bound, ColumnType, Fit, Zone, encode_column, find};

/// What `init` proposes unless something else is asked for.
const PLAIN: Wishes = Wishes { children: false, doc: true };

const DAY: i64 = 86_400_000;

fn fields(documents: &[Document]) -> Fields {
    let mut fields = Fields::default();
    for document in documents {
        fields.observe(Doc::new(&document.to_vec().unwrap()).unwrap());
    }
    fields
}

fn columns(documents: &[Document]) -> Vec<ColumnProposal> {
    propose(&fields(documents), PLAIN).columns
}

/// Thirty documents whose field `v` takes these values in turn.
fn turns(values: &[Bson]) -> ColumnProposal {
    let documents: Vec<Document> =
        values.iter().cycle().take(30).map(|value| doc! { "v": value.clone() }).collect();
    let mut columns = columns(&documents);
    assert_eq!(columns.len(), 1, "{columns:?}");
    columns.remove(0)
}

fn date(millis: i64) -> Bson {
    DateTime::from_millis(millis).into()
}

#[test]
fn columns_stand_in_the_order_of_the_documents_whichever_was_looked_at_first() {
    let names = |documents: &[Document]| -> Vec<String> {
        let mut fields = fields(documents);
        fields.put_in_order();
        fields.root.children.iter().map(|(name, _)| name.to_string()).collect()
    };
    let whole = doc! { "_id": 1, "a": 1, "b": 1, "c": 1 };
    let documents = [doc! { "_id": 2, "a": 1, "c": 1 }, whole.clone(), doc! { "_id": 3, "b": 1 }];
    let forwards = names(&documents);
    assert_eq!(forwards, ["_id", "a", "b", "c"]);
    let backwards: Vec<Document> = documents.into_iter().rev().collect();
    assert_eq!(names(&backwards), forwards);
}

#[test]
fn a_type_is_the_narrowest_that_takes_what_was_seen() {
    let decimal = || Bson::Decimal128("1.50".parse().unwrap());
    let text = || Bson::from("a");
    for (values, expected) in [
        (vec![true.into()], "boolean"),
        (vec![7.into()], "integer"),
        (vec![7.into(), Bson::Int64(8)], "integer"),
        (vec![7.into(), Bson::Int64(1 << 40)], "bigint"),
        (vec![1_700_000_000.into()], "bigint"),
        (vec![7.into(), 7.0.into()], "double"),
        (vec![7.0.into()], "double"),
        (vec![0.5.into(), Bson::Int64((1 << 53) + 1)], "numeric"),
        (vec![decimal(), 7.into(), 0.5.into()], "numeric"),
        (vec![text()], "text"),
        (vec![bson::oid::ObjectId::from_bytes([1; 12]).into()], "text"),
        (vec![date(0), date(DAY)], "date"),
        (vec![date(0), date(DAY + 1)], "timestamptz"),
        (vec![vec!["a"].into(), Bson::Array(vec![])], "text[]"),
        (vec![Bson::Array(vec!["a".into(), Bson::Null])], "text[]"),
        (vec![Bson::Array(vec!["a".into(), 1.into()])], "jsonb"),
        (vec![Bson::Array(vec![doc! { "a": 1 }.into()])], "jsonb"),
        (vec![text(), 7.into(), true.into(), date(0)], "text"),
        (vec![text(), doc! { "a": 1 }.into()], "jsonb"),
        (vec![text(), vec!["a"].into()], "jsonb"),
        (vec![doc! { "type": "Point", "coordinates": [1.0, 2.0] }.into()], "jsonb"),
        (vec![7.into(), Bson::Null], "integer"),
    ] {
        let column = turns(&values);
        assert_eq!(column.kind, expected, "{values:?}");
        assert_eq!(column.fitting, column.present, "{values:?}");
    }
}

#[test]
fn what_is_not_plain_is_said() {
    let said = |values: &[Bson]| turns(values).notes.join("; ");
    assert_eq!(said(&[7.into(), 8.into()]), "");
    assert_eq!(said(&["a".into(), "b".into()]), "2 distinct values");
    let mixed = said(&["a".into(), "b".into(), 7.into()]);
    assert_eq!(mixed, "mixed: texts 66 %, whole numbers 33 %");
    let summer = said(&[date(0), date(200 * DAY - DAY / 24)]);
    assert!(summer.starts_with("! these read like days at midnight of a local time"), "{summer}");
    let some = said(&[date(0), date(DAY), date(2 * DAY + 7)]);
    assert_eq!(some, "! 20 of 30 are midnight UTC: days and times are mixed");
    assert_eq!(said(&[date(5), date(DAY + 7)]), "");
    let far = said(&[date(i64::MAX), date(1)]);
    assert_eq!(far, "! takes 50 % of its values");
}

#[test]
fn dates_are_days_of_the_first_zone_whose_midnights_they_all_are() {
    let zones = ["America/New_York", "Europe/London"].map(|name| Zone::parse(name).unwrap());
    let column = |dates: &[Bson]| {
        let mut fields = Fields::of_zones(&zones);
        for date in dates {
            let document = doc! { "v": date.clone() }.to_vec().unwrap();
            fields.observe(Doc::new(&document).unwrap());
        }
        propose(&fields, PLAIN).columns.remove(0)
    };
    // 1 July 2024 and 31 December 2024 in London.
    let (summer, winter) = (date(1_719_788_400_000), date(1_735_603_200_000));
    let london = column(&[summer.clone(), winter.clone()]);
    assert_eq!((london.kind, london.zone, london.notes.len()), ("date", Some("Europe/London"), 0));
    let utc = column(&[winter]);
    assert_eq!((utc.kind, utc.zone), ("date", None), "midnight UTC is a day of UTC first");
    let neither = column(&[summer, date(5)]);
    assert_eq!((neither.kind, neither.zone), ("timestamptz", None));
}

#[test]
fn only_what_every_document_has_is_required() {
    let documents: Vec<Document> = (0..30)
        .map(|n| {
            let mut document = doc! { "_id": n, "always": n, "null": Bson::Null };
            document.insert("orNull", if n == 3 { Bson::Null } else { n.into() });
            if n != 7 {
                document.insert("once_missing", n);
            }
            document
        })
        .collect();
    let required = |documents: &[Document]| -> Vec<(String, bool)> {
        columns(documents).into_iter().map(|column| (column.name, column.required)).collect()
    };
    let told = |always| {
        [("always", always), ("or_null", always), ("once_missing", false)]
            .map(|(name, required)| (name.to_owned(), required))
    };
    assert_eq!(required(&documents), told(true));
    assert_eq!(required(&documents[..10]), told(false).map(|(name, _)| (name, false)));
}

#[test]
fn documents_become_columns_two_levels_deep_and_maps_stay_whole() {
    let names = ["Ada", "Ben", "Cyd", "Dot", "Eve", "Fay", "Gus"];
    let documents: Vec<Document> = (0..30)
        .map(|n: i32| {
            let many: Document = (0..3).map(|m| (format!("k{}", n * 3 + m), m.into())).collect();
            doc! {
                "_id": { "a": n }, "a": { "b": { "c": { "d": 1 } }, "e": n },
                "byYear": { "2025": 1 }, "many": many,
                "seen": { names[usize::try_from(n).unwrap_or_default() % 7]: n },
                "__v": 0, "5": 1, "mail@example.org": 2,
            }
        })
        .collect();
    let told: Vec<(String, String, &str)> = columns(&documents)
        .into_iter()
        .map(|column| (column.name, column.field, column.kind))
        .collect();
    let expected = [
        ("id_a", "_id.a", "integer"),
        ("a_b_c", "a.b.c", "jsonb"),
        ("a_e", "a.e", "integer"),
        ("by_year", "byYear", "jsonb"),
        ("many", "many", "jsonb"),
        ("seen", "seen", "jsonb"),
    ];
    assert_eq!(told, expected.map(|(name, field, kind)| (name.into(), field.into(), kind)));
}

#[test]
fn the_fields_in_most_documents_come_first_and_the_rest_is_counted() {
    let documents: Vec<Document> = (0..100)
        .map(|n| {
            (0..1_000)
                .filter(|f| n % (f % 7 + 1) == 0)
                .map(|f| (format!("f{f}"), Bson::from(f)))
                .collect()
        })
        .collect();
    let Proposed { columns, notes, .. } = propose(&fields(&documents), PLAIN);
    assert_eq!(columns.len(), COLUMNS_MAX);
    assert!(columns.iter().all(|column| column.present == 100), "{columns:?}");
    assert_eq!(notes, ["the 60 fields in most documents; 940 more stay in doc"]);
}

fn values() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::Null),
        any::<bool>().prop_map(Bson::from),
        any::<i32>().prop_map(Bson::from),
        any::<i64>().prop_map(Bson::from),
        any::<f64>().prop_map(Bson::from),
        any::<i64>().prop_map(date),
        "\\PC{0,9}".prop_map(Bson::from),
        Just(Bson::Timestamp(bson::Timestamp { time: 1, increment: 2 })),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            prop::collection::vec(("[a-c.$ ]{0,3}", inner), 0..4)
                .prop_map(|pairs| Bson::Document(pairs.into_iter().collect())),
        ]
    })
}

fn documents() -> impl Strategy<Value = Vec<Document>> {
    let document = prop::collection::vec(("[a-cA-C.$_ ]{0,3}", values()), 0..6);
    prop::collection::vec(document.prop_map(|pairs| pairs.into_iter().collect()), 0..12)
}

proptest! {
    /// What `check` and `run` would find of the documents it was made from.
    #[test]
    fn a_proposal_counts_what_the_encoder_writes(documents in documents()) {
        for column in columns(&documents) {
            let path: Vec<Box<str>> = column.field.split('.').map(Into::into).collect();
            let kind = ColumnType::parse(column.kind).unwrap();
            let (mut present, mut fitting) = (0, 0);
            for document in &documents {
                let bytes = document.to_vec().unwrap();
                let value = find(Doc::new(&bytes).unwrap(), &path);
                let fit = encode_column(value, kind, Bound::NONE, &mut Vec::new());
                present += u64::from(fit != Fit::Null);
                fitting += u64::from(fit == Fit::Value);
            }
            prop_assert_eq!((column.present, column.fitting), (present, fitting), "{:?}", column);
            prop_assert!(fitting > 0, "check would find that nothing fits: {:?}", column);
        }
    }
}
