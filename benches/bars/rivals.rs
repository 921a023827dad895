//! What the daemon is measured against, in the same run: a bare read, a row at a time, a bare
//! COPY.

use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt};
use mongodb::Database;
use mongodb::bson::{Document, RawDocumentBuf, doc, rawdoc};
use sqlx::Connection;

use crate::daemon::World;
use crate::load::COLLECTION;

/// Events a second of the change stream without lookup, nothing done with them.
pub async fn bare_read(source: &Database, after: &RawDocumentBuf, events: usize) -> f64 {
    let command = rawdoc! {
        "aggregate": COLLECTION,
        "pipeline": [{ "$changeStream": { "resumeAfter": after.clone() } }],
        "cursor": {},
        "readConcern": { "level": "majority" },
    };
    let begun = Instant::now();
    let mut cursor = source.run_raw_cursor_command(command).batch().await.unwrap();
    let mut read = 0;
    while read < events {
        read += cursor.next().await.unwrap().unwrap().doc_slices().unwrap().into_iter().count();
    }
    read as f64 / begun.elapsed().as_secs_f64()
}

/// Events a second of what a script does: the server looks up, each row is a statement, 1000 to a
/// transaction.
pub async fn row_at_a_time(world: &World, after: &RawDocumentBuf, events: usize) -> f64 {
    let mut pg = world.pg().await;
    let create = "create table if not exists slow (id text primary key, doc jsonb, last_name text, \
                  at timestamptz)";
    sqlx::query(create).execute(&mut pg).await.unwrap();
    let after: Document = mongodb::bson::deserialize_from_slice(after.as_bytes()).unwrap();
    let options = doc! { "fullDocument": "updateLookup", "resumeAfter": after };
    let stage = doc! { "$changeStream": options };
    let mut cursor = world
        .source
        .collection::<Document>(COLLECTION)
        .aggregate([stage])
        .batch_size(1000)
        .await
        .unwrap();
    let begun = Instant::now();
    let mut done = 0;
    while done < events {
        let mut transaction = pg.begin().await.unwrap();
        for _ in 0..1000 {
            let event = cursor.try_next().await.unwrap().unwrap();
            let id = event.get_document("documentKey").unwrap().get_str("_id").unwrap().to_owned();
            done += 1;
            let Ok(document) = event.get_document("fullDocument") else {
                sqlx::query("delete from slow where id = $1")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                continue;
            };
            let json =
                devstack::plain_json(&mongodb::bson::Bson::Document(document.clone())).to_string();
            let sql = "insert into slow values ($1, $2::jsonb, $3, now()) on conflict (id) do \
                       update set doc = excluded.doc, last_name = excluded.last_name, at = now()";
            let query =
                sqlx::query(sql).bind(id).bind(json).bind(document.get_str("doctorLastName").ok());
            query.execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

/// Seconds of one binary COPY of the table's own rows into a fresh table of the same shape.
pub async fn bare_copy(world: &World) -> f64 {
    let mut pg = world.pg().await;
    sqlx::raw_sql(
        "drop table if exists copied; create table copied (like public.doctor including \
         all); checkpoint",
    )
    .execute(&mut pg)
    .await
    .unwrap();
    let columns = "(id, last_name, doctor_status, submission_date, doc, _hash, _cluster_time)";
    let out =
        sqlx::AssertSqlSafe(format!("copy public.doctor {columns} to stdout (format binary)"));
    let bytes: Vec<u8> = {
        let statement = out.0;
        let mut stream = pg.copy_out_raw(&statement).await.unwrap();
        let mut all = Vec::new();
        while let Some(part) = stream.try_next().await.unwrap() {
            all.extend_from_slice(&part);
        }
        all
    };
    // As the snapshot does: over a session of its own, just opened.
    let mut pg = world.pg().await;
    let begun = Instant::now();
    let mut sink =
        pg.copy_in_raw(&format!("copy copied {columns} from stdin (format binary)")).await.unwrap();
    for part in bytes.chunks(256 << 10) {
        sink.send(part).await.unwrap();
    }
    sink.finish().await.unwrap();
    begun.elapsed().as_secs_f64()
}
