//! What is included and excluded is what the server's own `$project` and `$unset` leave.

use std::fmt::Write as _;

use fastrand::Rng;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, deserialize_from_slice, doc};
use tidemark::model::bson::Doc;
use tidemark::model::redaction::{FieldPath, Hidden, Redaction, leads_into, parse_path};
use tidemark::model::value::Bound;

use crate::support::World;

const NAMES: [&str; 5] = ["a", "b", "c", "dd", "_id"];

fn value(rng: &mut Rng, depth: usize) -> Bson {
    match rng.u8(0..if depth == 0 { 5 } else { 10 }) {
        0 => Bson::Null,
        1 => Bson::Int32(rng.i32(0..9)),
        2 => Bson::String(rng.alphabetic().to_string()),
        3 => Bson::Boolean(rng.bool()),
        4 => Bson::DateTime(mongodb::bson::DateTime::from_millis(rng.i64(0..9))),
        5..=7 => Bson::Document(document(rng, depth - 1)),
        _ => Bson::Array((0..rng.usize(0..4)).map(|_| value(rng, depth - 1)).collect()),
    }
}

fn document(rng: &mut Rng, depth: usize) -> Document {
    let mut names = NAMES.to_vec();
    rng.shuffle(&mut names);
    names.truncate(rng.usize(0..=4));
    names.into_iter().map(|name| (name.to_owned(), value(rng, depth))).collect()
}

/// Paths of which none leads into another, and none begins at `_id`.
fn paths(rng: &mut Rng) -> Vec<FieldPath> {
    let mut paths: Vec<FieldPath> = Vec::new();
    for _ in 0..rng.usize(1..5) {
        let mut dotted = NAMES[rng.usize(0..4)].to_owned();
        for _ in 0..rng.usize(0..3) {
            write!(dotted, ".{}", NAMES[rng.usize(0..5)]).unwrap();
        }
        let path = parse_path(&dotted).unwrap();
        if !paths.iter().any(|known| leads_into(known, &path) || leads_into(&path, known)) {
            paths.push(path);
        }
    }
    paths
}

#[tokio::test]
async fn include_and_exclude_are_the_servers_own_projections() {
    let world = World::new().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let collection = world.collection("odd");
    let documents: Vec<Document> = (0..400)
        .map(|id| {
            let mut whole = doc! { "_id": id };
            let rest = document(&mut rng, 5).into_iter().filter(|(name, _)| name != "_id");
            whole.extend(rest);
            whole
        })
        .collect();
    collection.insert_many(&documents).await.unwrap();
    let mut changed = 0;
    for round in 0..60 {
        let paths = paths(&mut rng);
        let includes = round % 2 == 0;
        let named = paths.iter().map(|path| (path.join("."), Bson::Int32(i32::from(includes))));
        let stage = doc! { "$project": named.collect::<Document>() };
        let sorted = doc! { "$sort": { "_id": 1 } };
        let cursor = collection.aggregate([sorted, stage.clone()]).await.unwrap();
        let theirs: Vec<Document> = cursor.try_collect().await.unwrap();
        let (include, exclude) = if includes { (paths, vec![]) } else { (vec![], paths) };
        let hidden = Hidden { include, exclude, masks: vec![] };
        let redaction = Redaction::new(&hidden, None);
        assert_eq!(theirs.len(), documents.len());
        for (document, theirs) in documents.iter().zip(theirs) {
            let bytes = document.to_vec().unwrap();
            let ours = redaction.apply(Doc::new(&bytes).unwrap(), Bound::NONE).unwrap();
            let ours: Document = deserialize_from_slice(&ours).unwrap();
            assert_eq!(
                ours.to_vec().unwrap(),
                theirs.to_vec().unwrap(),
                "seed {seed}: {stage} of {document}: ours {ours}, theirs {theirs}"
            );
            changed += usize::from(ours != *document);
        }
    }
    assert!(changed > 1_000, "only {changed} documents were changed");
}
