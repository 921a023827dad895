//! Tables of arrays' elements, and columns that are all there is.

use bson::{Bson, Document, doc};
use proptest::prelude::*;

use super::super::fields::Fields;
use super::super::proposal::{ChildProposal, ColumnProposal, Proposed, Wishes, propose};
use super::super::{Followed, StreamProposal, Surveyed, streams};
use super::{DAY, date, documents, fields, values};
use crate::model::bson::Doc;
use crate::model::value::{Bound, ColumnType, Fit, encode_column, find};

const CHILDREN: Wishes = Wishes { children: true, doc: true };
const ALONE: Wishes = Wishes { children: false, doc: false };
const BOTH: Wishes = Wishes { children: true, doc: false };

fn proposed(documents: &[Document], wishes: Wishes) -> Proposed {
    propose(&fields(documents), wishes)
}

/// Thirty documents whose field `v` is an array of these elements.
fn with_elements(elements: &[Bson]) -> Vec<Document> {
    (0..30).map(|n| doc! { "_id": n, "v": elements.to_vec() }).collect()
}

fn told(columns: &[ColumnProposal]) -> Vec<String> {
    let told = |column: &ColumnProposal| {
        let ColumnProposal { name, field, kind, required, present, notes, .. } = column;
        let required = if *required { " required" } else { "" };
        format!("{name} {field} {kind}{required} {present} {}", notes.join("; ")).trim().to_owned()
    };
    columns.iter().map(told).collect()
}

#[test]
fn documents_in_an_array_get_the_columns_that_documents_get() {
    let item = |n: i32| {
        let mut item = doc! {
            "_id": n, "position": n, "parentId": "p", "sku": if n % 2 == 0 { "a" } else { "b" },
            "price": f64::from(n) + 0.5, "on": date(i64::from(n) * DAY), "tags": ["x"],
            "of": { "n": n, "deep": { "m": { "l": 1 } } }, "mail": "m", "in": [{ "a": 1 }],
            "nothing": Bson::Null, "_class": "Item",
        };
        if n != 3 {
            item.insert("often", true);
        }
        Bson::from(item)
    };
    let documents: Vec<Document> = (0..30)
        .map(|n| {
            let items: Vec<Bson> = (0..n % 3).map(|m| item(n + m)).collect();
            doc! { "_id": n, "lines": { "items": items } }
        })
        .collect();
    let Proposed { columns, mut children, notes, .. } = proposed(&documents, CHILDREN);
    assert!(columns.is_empty() && notes.is_empty(), "{columns:?} {notes:?}");
    let child = children.remove(0);
    let counted = (child.present, child.fitting, child.elements, child.documents);
    assert_eq!(
        (&*child.table, &*child.field, counted),
        ("lines_items", "lines.items", (30, 30, 30, 30))
    );
    assert_eq!(
        told(&child.columns),
        [
            "id _id integer required 30",
            "position_field position integer required 30",
            "parent_id_field parentId text required 30 1 distinct value",
            "sku sku text required 30 2 distinct values",
            "price price double required 30",
            "on on date required 30",
            "tags tags text[] required 30",
            "of_n of.n integer required 30",
            "of_deep_m of.deep.m jsonb required 30 documents",
            "mail mail text required 30 1 distinct value; ! its name reads like a person's data: \
             exclude or mask, if nobody is to read it",
            "in in jsonb required 30 arrays",
            "often often boolean 29",
        ]
    );
    assert_eq!(
        child.notes,
        [
            "1 never more than null or empty in the sample: in doc",
            "_class is a framework's own and stays in doc"
        ]
    );
}

#[test]
fn unasked_an_array_stays_a_column_that_says_what_it_could_be() {
    let documents = with_elements(&[doc! { "a": 1 }.into(), Bson::Null, doc! {}.into()]);
    let Proposed { columns, children, .. } = proposed(&documents, super::PLAIN);
    assert!(children.is_empty(), "{children:?}");
    let said = "v v jsonb required 30 arrays of documents; --children makes a table of them";
    assert_eq!(told(&columns), [said]);
    let asked = proposed(&documents, CHILDREN);
    assert_eq!((asked.columns.len(), asked.children.len()), (0, 1));
}

#[test]
fn arrays_of_anything_else_stay_columns() {
    let map: Document = (0..20).map(|n| (format!("k{n}"), n.into())).collect();
    let maps = map.into_iter().map(|(key, value)| Bson::from(doc! { key: value }));
    for elements in [
        vec![],
        vec![1.into()],
        vec![Bson::Array(vec![doc! { "a": 1 }.into()])],
        vec![doc! {}.into()],
        vec![doc! { "type": "Point", "coordinates": [1.0, 2.0] }.into()],
        vec![doc! { "2025": 1 }.into()],
        vec![doc! { "5f3e0c1a2b3c4d5e6f708192": { "a": 1 } }.into()],
        vec![doc! { "": 1 }.into()],
        vec![doc! { "_class": "Item" }.into(), doc! { "a": Bson::Null }.into()],
        maps.collect(),
        vec![doc! { "a": 1 }.into(), "a".into()],
    ] {
        let found = proposed(&with_elements(&elements), CHILDREN);
        assert!(found.children.is_empty(), "{elements:?}: {:?}", found.children);
        let hint = found.columns.iter().any(|c| c.notes.iter().any(|n| n.contains("--children")));
        assert!(!hint, "{elements:?}: {:?}", found.columns);
        assert_eq!(found.columns.len(), usize::from(!elements.is_empty()), "{elements:?}");
        let alone = proposed(&with_elements(&elements), BOTH);
        assert_eq!((alone.children.len(), alone.columns.len()), (0, 1), "{elements:?}");
    }
    let deep = |array: Bson| (0..30).map(move |n| doc! { "_id": n, "a": { "b": array.clone() } });
    let array = Bson::from(vec![doc! { "x": 1 }]);
    let three: Vec<Document> = deep(doc! { "c": array.clone() }.into()).collect();
    let four: Vec<Document> = deep(doc! { "c": { "d": array.clone() } }.into()).collect();
    assert_eq!(proposed(&three, CHILDREN).children.len(), 1);
    assert_eq!(proposed(&four, CHILDREN).children.len(), 0);
    let id = [doc! { "_id": { "a": array } }];
    assert_eq!(proposed(&id, CHILDREN).children.len(), 0);
}

#[test]
fn of_an_array_nearly_all_of_documents_the_share_is_said_and_its_column_keeps_the_rest() {
    let second = |n: i32| if n % 20 == 0 { 7.into() } else { Bson::from(doc! { "a": 2 }) };
    let mut documents: Vec<Document> =
        (0..60).map(|n| doc! { "_id": n, "v": [{ "a": 1 }, second(n)] }).collect();
    documents.push(doc! { "_id": 99, "v": "none" });
    let said = [
        "! takes 98 % of its values: the others are no arrays",
        "! 97 % of its elements are documents: others are empty rows",
    ];
    let found = proposed(&documents, CHILDREN);
    assert_eq!(
        (&found.children[0].notes[..], found.columns.len()),
        (&said.map(str::to_owned)[..], 0)
    );
    let alone = proposed(&documents, BOTH);
    assert_eq!(alone.children, found.children);
    let kept =
        "v v jsonb required 61 mixed: arrays 98 %, texts 1 %; keeps what their table does not take";
    assert_eq!(told(&alone.columns), [kept]);
}

#[test]
fn without_doc_whatever_was_seen_has_a_column_or_is_named() {
    let documents: Vec<Document> = (0..30)
        .map(|n| {
            let far = if n == 0 { i64::MAX } else { i64::from(n) };
            doc! {
                "_id": n, "_class": "C", "__v": 0, "null": Bson::Null, "empty": [],
                "far": date(far), "mail@example": 1, "": 2,
                "of": { "none": Bson::Null, "n": n },
            }
        })
        .collect();
    let alone = proposed(&documents, ALONE);
    assert!(!alone.doc);
    assert_eq!(
        told(&alone.columns),
        [
            "class _class text required 30 1 distinct value",
            "v __v integer required 30",
            "null null jsonb required 0 never more than null or empty in the sample",
            "empty empty jsonb required 30 never more than null or empty in the sample",
            "far far jsonb required 30 ! 3 % out of the range of timestamp with time zone",
            "of_none of.none jsonb required 0 never more than null or empty in the sample",
            "of_n of.n integer required 30",
        ]
    );
    assert_eq!(
        alone.notes,
        [
            "! 1 with keys that read like data are kept nowhere",
            "! fields whose key is empty or has a dot are kept nowhere"
        ]
    );
}

#[test]
fn without_doc_more_columns_are_proposed_and_documents_are_left_whole_before_any_is_lost() {
    let nested = |numbers: std::ops::Range<i32>| -> Document {
        numbers.map(|n| (format!("f{n}"), n.into())).collect()
    };
    let mut wide = nested(0..300);
    assert_eq!(proposed(&[wide.clone()], ALONE).columns.len(), 300);
    wide.insert("of", nested(0..40));
    wide.insert("and", doc! { "of": nested(0..40) });
    assert_eq!(proposed(&[wide.clone()], ALONE).columns.len(), 380);
    wide.insert("more", nested(0..40));
    let Proposed { columns, notes, .. } = proposed(&[wide.clone()], ALONE);
    assert_eq!((columns.len(), notes.len()), (303, 0), "{notes:?}");
    wide.extend(nested(300..420));
    let Proposed { columns, notes, .. } = proposed(&[wide], ALONE);
    assert_eq!(columns.len(), 400);
    let lost: Vec<String> = (397..417).map(|n| format!("f{n}")).collect();
    let lost = format!(
        "! the 400 fields in most documents; 23 more are kept nowhere: {} and 3 others",
        lost.join(", ")
    );
    assert_eq!(notes, [lost]);
}

#[test]
fn doc_stays_where_there_is_no_column() {
    for (documents, children) in [
        (vec![], 0),
        (vec![doc! { "_id": 1 }], 0),
        (vec![doc! { "_id": 1, "2025": 1 }], 0),
        (with_elements(&[doc! { "a": 1 }.into()]), 1),
    ] {
        let found = proposed(&documents, BOTH);
        assert!(found.doc && found.columns.is_empty(), "{found:?}");
        assert_eq!(found.children.len(), children);
        let last = found.notes.last().map(String::as_str);
        assert_eq!(last, Some("doc = false needs a column: doc stays"));
    }
}

#[test]
fn tables_of_arrays_make_way_for_all_others() {
    let array = || Bson::from(vec![doc! { "a": 1 }]);
    let any = |document: Document| -> Fields { fields(&[document]) };
    let of = |name: &str| Surveyed {
        name: name.to_owned(),
        kind: "collection",
        documents: None,
        bytes: None,
        obstacle: None,
    };
    let collections =
        [of("orders"), of("orders_items"), of("ordersItems"), of("x".repeat(63).as_str())];
    let [orders, items, others, long] = &collections;
    let looked = [
        (orders, any(doc! { "items": array(), "history": array(), "in": { "lines": array() } })),
        (items, any(doc! { "a": 1 })),
        (others, any(doc! { "history": array() })),
        (long, any(doc! { "a": array(), "b": array() })),
    ];
    let followed = Followed { tables: vec!["orders_in_lines".to_owned()], ..Followed::default() };
    let tables: Vec<Vec<String>> = streams(&looked, &followed, CHILDREN)
        .into_iter()
        .map(|StreamProposal { table, children, .. }| {
            [table].into_iter().chain(children.into_iter().map(|child| child.table)).collect()
        })
        .collect();
    let x = |end: &str| format!("{}{end}", "x".repeat(63 - end.len()));
    assert_eq!(
        tables,
        [
            vec!["orders", "orders_items_3", "orders_history_2", "orders_in_lines_2"],
            vec!["orders_items"],
            vec!["orders_items_2", "orders_items_2_history_2"],
            vec![&*x(""), &*x("_2"), &*x("_3")],
        ]
    );
}

fn path(field: &str) -> Vec<Box<str>> {
    field.split('.').map(Into::into).collect()
}

fn fit(document: &Document, column: &ColumnProposal) -> Fit {
    let bytes = document.to_vec().unwrap();
    let value = find(Doc::new(&bytes).unwrap(), &path(&column.field));
    let kind = ColumnType::parse(column.kind).unwrap();
    encode_column(value, kind, Bound::NONE, &mut Vec::new())
}

/// The documents in the arrays of a field.
fn rows(documents: &[Document], child: &ChildProposal) -> Vec<Document> {
    let array = |document: &Document| -> Vec<Bson> {
        let mut value = Bson::from(document.clone());
        for name in child.field.split('.') {
            let inner = value.as_document().and_then(|document| document.get(name));
            value = inner.cloned().unwrap_or(Bson::Null);
        }
        value.as_array().cloned().unwrap_or_default()
    };
    let elements = documents.iter().flat_map(array);
    elements.filter_map(|element| element.as_document().cloned()).collect()
}

/// What of a document no column and no table takes: paths.
fn lost(
    document: &Document,
    (columns, children): (&[ColumnProposal], &[ChildProposal]),
    at: &[&str],
) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (key, value) in document.iter().filter(|(_, value)| **value != Bson::Null) {
        let path = [at, &[&**key]].concat();
        let (field, told) = (path.join("."), path.iter().map(|&part| part.to_owned()).collect());
        let within = format!("{field}.");
        let mut read = columns.iter().map(|column| &column.field);
        let mut all_read = read.clone().chain(children.iter().map(|child| &child.field));
        if read.any(|read| *read == field) {
            continue;
        }
        match (value, children.iter().find(|child| child.field == field)) {
            (Bson::Array(array), Some(child)) => {
                for element in array.iter().filter(|element| **element != Bson::Null) {
                    let of_row = match element {
                        Bson::Document(row) => lost(row, (&child.columns, &[]), &[]),
                        _ => vec![vec![]],
                    };
                    all.extend(of_row.into_iter().map(|path| [vec![field.clone()], path].concat()));
                }
            }
            (Bson::Document(inner), None) if all_read.any(|read| read.starts_with(&within)) => {
                all.extend(lost(inner, (columns, children), &path));
            }
            _ => all.push(told),
        }
    }
    all
}

fn with_arrays() -> impl Strategy<Value = Vec<Document>> {
    let element = prop::collection::vec(("[a-c.5]{0,2}", values()), 0..4)
        .prop_map(|pairs| Bson::from(pairs.into_iter().collect::<Document>()));
    let array = prop::collection::vec(element, 0..4).prop_map(Bson::Array);
    let of = prop::collection::vec((documents(), "[a-c]", array, any::<bool>()), 0..6);
    of.prop_map(|all| {
        let documents = all.into_iter().filter_map(|(documents, key, array, is_deep)| {
            let mut document = documents.into_iter().next()?;
            let array = if is_deep { doc! { "d": array }.into() } else { array };
            document.insert(key, array);
            Some(document)
        });
        documents.collect()
    })
}

proptest! {
    #[test]
    fn a_table_of_an_array_counts_what_the_encoder_writes(documents in with_arrays()) {
        for child in proposed(&documents, CHILDREN).children {
            let rows = rows(&documents, &child);
            prop_assert_eq!(child.documents, rows.len() as u64);
            prop_assert!(!child.columns.is_empty());
            for column in &child.columns {
                let fits: Vec<Fit> = rows.iter().map(|row| fit(row, column)).collect();
                let present = fits.iter().filter(|fit| **fit != Fit::Null).count() as u64;
                let fitting = fits.iter().filter(|fit| **fit == Fit::Value).count() as u64;
                let counted = (column.present, column.fitting);
                prop_assert_eq!(counted, (present, fitting), "{:?}", column);
                prop_assert!(fitting > 0, "check would find that nothing fits: {:?}", column);
            }
        }
    }

    #[test]
    fn without_doc_nothing_is_lost_that_is_not_said(documents in with_arrays()) {
        for wishes in [ALONE, BOTH] {
            let proposed = proposed(&documents, wishes);
            if proposed.doc {
                continue;
            }
            let takes_all = |column: &ColumnProposal| column.fitting == column.present;
            prop_assert!(proposed.columns.iter().all(takes_all), "{:?}", proposed.columns);
            let said = "! fields whose key is empty or has a dot are kept nowhere";
            let is_unnamed = |key: &String| key.contains('.') || key.trim().is_empty();
            for document in &documents {
                let lost = lost(document, (&proposed.columns, &proposed.children), &[]);
                let is_said = |path: &Vec<String>| path.len() == 1 && is_unnamed(&path[0]);
                prop_assert!(lost.iter().all(is_said), "{:?} {:?}", lost, proposed);
                let is_noted = lost.is_empty() || proposed.notes.iter().any(|note| note == said);
                prop_assert!(is_noted, "{:?} {:?}", lost, proposed);
            }
        }
    }
}
