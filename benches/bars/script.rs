//! The rival at rest: a careful script. One change stream of one collection, the documents of
//! updates looked up by the server; each reply is one transaction of COPY, merge and position. It
//! reaches Postgres by the server's socket: over TCP sqlx leaves Nagle's algorithm on, and a short
//! COPY would wait 40 ms for an acknowledgement, which no other driver does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt;
use mongodb::Client;
use mongodb::bson::{Bson, Document, RawDocument, rawdoc};
use sqlx::{Connection, PgConnection};

use crate::load::COLLECTION;

/// The table that it fills.
pub const TABLE: &str = "public.scripted";

const SCHEMA: &str = "
    create table if not exists scripted (id text primary key, doc jsonb, last_name text, at \
                      timestamptz);
    create table if not exists place (id int primary key, token bytea);
    insert into place values (1, null) on conflict do nothing";

const MERGE: &str = "
    insert into scripted as s (id, doc, last_name, at)
    select id, doc, last_name, now() from staged where doc is not null
    on conflict (id) do update set doc = excluded.doc, last_name = excluded.last_name, at = \
                     excluded.at
    where (s.doc, s.last_name) is distinct from (excluded.doc, excluded.last_name)";

/// Runs on a thread of its own until it is stopped.
pub struct Script {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    /// Follows from now on, in databases of its own.
    pub async fn start(uri: &str, database: &str, url: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, ready) = tokio::sync::oneshot::channel();
        let (stopped, uri) = (Arc::clone(&stop), uri.to_owned());
        let (database, url) = (database.to_owned(), url.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(follow(&uri, &database, &url, &stopped, told));
        });
        ready.await.unwrap();
        Self { stop, thread: Some(thread) }
    }

    /// Makes the tables that it fills.
    pub async fn prepare(url: &str) {
        let mut pg = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(SCHEMA).execute(&mut pg).await.unwrap();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()), "the script failed");
    }
}

async fn follow(
    uri: &str,
    database: &str,
    url: &str,
    stop: &AtomicBool,
    told: tokio::sync::oneshot::Sender<()>,
) {
    let mut pg = PgConnection::connect(url).await.unwrap();
    let staged = "create temp table staged (id text, doc jsonb, last_name text) on commit delete \
                  rows";
    sqlx::raw_sql(staged).execute(&mut pg).await.unwrap();
    let source = Client::with_uri_str(uri).await.unwrap().database(database);
    let command = rawdoc! {
        "aggregate": COLLECTION,
        "pipeline": [{ "$changeStream": { "fullDocument": "updateLookup" } }],
        "cursor": { "batchSize": 0 },
        "readConcern": { "level": "majority" },
    };
    let call = source.run_raw_cursor_command(command).max_time(Duration::from_millis(500));
    let mut cursor = call.batch().await.unwrap();
    let mut told = Some(told);
    while !stop.load(Ordering::Relaxed) {
        let reply = cursor.next().await.unwrap().unwrap();
        let events = reply.doc_slices().unwrap();
        // Of each document the last change counts.
        let mut rows = BTreeMap::new();
        let mut token = None;
        for event in events {
            let event = event.unwrap();
            let event = event.as_document().unwrap();
            token = Some(event.get_document("_id").unwrap().as_bytes().to_vec());
            let id = event.get_document("documentKey").unwrap().get_str("_id").unwrap().to_owned();
            rows.insert(id, event.get_document("fullDocument").ok());
        }
        if let Some(token) = token {
            apply(&mut pg, &rows, &token).await;
        }
        if let Some(told) = told.take() {
            let _ = told.send(());
        }
    }
}

async fn apply(pg: &mut PgConnection, rows: &BTreeMap<String, Option<&RawDocument>>, token: &[u8]) {
    let mut transaction = pg.begin().await.unwrap();
    let mut text = String::new();
    for (id, document) in rows {
        let Some(document) = document else {
            writeln!(text, "{id}\t\\N\t\\N").unwrap();
            continue;
        };
        let document: Document =
            mongodb::bson::deserialize_from_slice(document.as_bytes()).unwrap();
        let name = document.get_str("doctorLastName").unwrap_or("\\N").to_owned();
        let json = devstack::plain_json(&Bson::Document(document)).to_string();
        writeln!(text, "{id}\t{}\t{name}", json.replace('\\', "\\\\")).unwrap();
    }
    let mut copy = transaction.copy_in_raw("copy staged from stdin").await.unwrap();
    copy.send(text.as_bytes()).await.unwrap();
    copy.finish().await.unwrap();
    sqlx::query(MERGE).execute(&mut *transaction).await.unwrap();
    if rows.values().any(Option::is_none) {
        let delete = "delete from scripted using staged where scripted.id = staged.id and \
                      staged.doc is null";
        sqlx::query(delete).execute(&mut *transaction).await.unwrap();
    }
    let place = sqlx::query("update place set token = $1 where id = 1").bind(token);
    place.execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}
