//! The page an operator opens: it reads without JavaScript, is live, loads nothing from elsewhere,
//! and says what is so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;

use crate::alerting::seed;
use crate::support::{Config, Daemon, World, eventually, stream};

const DOCTORS: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

async fn world(extra: &str) -> World {
    let quick = "retry.escalate_after = \"1s\"\nalert.resolve_hold = \"1s\"\n";
    let world = World::with(Config { extra: format!("{quick}{extra}"), ..Config::default() }).await;
    seed(&world, 400).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_reads_without_javascript_and_loads_nothing_from_elsewhere() {
    let world = world("").await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let answer = reqwest_get(&daemon, "/").await;
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let parts = [
        "Healthy",
        "There is nothing to do",
        "headroom",
        "<svg",
        "led here",
        "Configuration",
        "http-equiv=\"refresh\"",
    ];
    let mut html = answer.text().await.unwrap();
    // The other stream may still be walked, and the headroom be measured in a moment.
    let is_whole = async || {
        html = daemon.get("/").await.1;
        parts.iter().all(|part| html.contains(part))
    };
    eventually("all parts are there", is_whole).await;
    assert!(
        !html.contains("style=") && !html.contains("onclick") && !html.contains("://"),
        "{html}"
    );
    // Live: a change shows in the stream of events.
    let mut events = reqwest_get(&daemon, "/events").await.bytes_stream();
    world.collection(DOCTORS).drop().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut text = String::new();
    while !(text.contains("source_dropped") && text.contains("Critical")) {
        let part =
            tokio::time::timeout_at(deadline, events.next()).await.unwrap().unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&part));
    }
    assert!(text.starts_with("data: "), "{text}");
    // The page whole, then what of it has changed: of the other stream nothing was sent again.
    let (_, parts) = text.split_once("event: parts").unwrap();
    assert!(parts.contains(r#"["top",""#), "{parts}");
    stream_is_shown(&daemon).await;
}

/// All of one stream on demand: a page for a person, JSON for a program, and a plain word where
/// there is none.
async fn stream_is_shown(daemon: &Daemon) {
    let html = reqwest_get(daemon, "/stream/doct%6Fr").await.text().await.unwrap();
    for part in ["<h1>doctor</h1>", "parked", "source_dropped", "doctorLastName", "<svg", "../"] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    assert!(!html.contains("style=") && !html.contains("://"), "{html}");
    let client = tidemark::http_client::builder().build().unwrap();
    let ask = |path: &str| {
        let url = format!("http://{}{path}", daemon.address);
        client.get(url).header("accept", "application/json").send()
    };
    let json = ask("/stream/doctor").await.unwrap().text().await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&told["name"], &told["phase"]), (&"doctor".into(), &"parked".into()));
    let of_status = &daemon.status().await["streams"][0];
    let keys = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().cloned().collect::<Vec<String>>()
    };
    assert_eq!(keys(&told), keys(of_status), "as in /status");
    for path in ["/stream/nurse", "/stream/%3Cscript%3E"] {
        let answer = ask(path).await.unwrap();
        assert_eq!(answer.status().as_u16(), 404);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("no stream has the name "), "{text}");
    }
}

async fn reqwest_get(daemon: &Daemon, path: &str) -> reqwest::Response {
    let client = tidemark::http_client::builder().timeout(Duration::from_secs(90)).build().unwrap();
    client.get(format!("http://{}{path}", daemon.address)).send().await.unwrap()
}

/// A browser, opening the page for a few seconds: what its document came to, and a picture of it.
fn open(daemon: &Daemon, name: &str, flags: &[&str]) -> String {
    open_at(daemon, "/", name, flags)
}

fn open_at(daemon: &Daemon, path: &str, name: &str, flags: &[&str]) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("http://{}{path}", daemon.address);
    let profile = folder.join(format!("profile-{name}"));
    let browser = |last: &[String]| {
        let found = ["chromium", "google-chrome", "chrome"].into_iter().find(|name| {
            std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()))
        });
        let output = Command::new(found.unwrap_or("a Chromium, which is not on PATH"))
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--enable-logging=stderr",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(flags)
            .args(last)
            .arg(&url)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!log.contains("Content Security Policy") && !log.contains("Uncaught"), "{log}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let picture = folder.join(format!("{name}.png"));
    browser(&[format!("--screenshot={}", picture.display()), "--timeout=4000".to_owned()]);
    assert!(Path::new(&picture).exists(), "no picture {}", picture.display());
    browser(&["--dump-dom".to_owned(), "--timeout=4000".to_owned()])
}

const WIDE: &str = "--window-size=1200,1100";
const PHONE: &str = "--window-size=500,1500";
const DARK: &str = "--blink-settings=preferredColorScheme=0";

/// Every state of the page in a real browser; the pictures are for a person to look at.
#[ignore = "needs a Chromium on PATH: CI runs it with --ignored"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_in_a_real_browser() {
    let world = world("resync.documents_per_second_max = 20\nresync.chunk_documents = 20\n").await;
    let daemon = world.start();
    let dom = open(&daemon, "snapshotting", &[WIDE]);
    assert!(dom.contains("snapshotting") && dom.contains("<progress"), "{dom}");
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let doctors = world.collection(DOCTORS);
    let writer = tokio::spawn(async move {
        for n in 0.. {
            let set = mongodb::bson::doc! { "$set": { "admin": format!("admin{n}@example.org") } };
            let _ = doctors
                .update_many(
                    mongodb::bson::doc! { "_id": { "$gt": format!("10003{:02}", n % 90) } },
                    set,
                )
                .await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(40)).await;
    for (name, flags) in
        [("healthy", &[WIDE][..]), ("healthy-dark", &[WIDE, DARK]), ("healthy-phone", &[PHONE])]
    {
        let dom = open(&daemon, name, flags);
        assert!(dom.contains("<title>healthy") && dom.contains("<h1>Healthy"), "{dom}");
    }
    writer.abort();
    let standby = world.start();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(open(&standby, "standby", &[WIDE]).contains("led by"));
    drop(standby);
    let drift = mongodb::bson::doc! { "$set": { "existsInGmc": "perhaps" } };
    world.collection(DOCTORS).update_many(mongodb::bson::doc! {}, drift).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(open(&daemon, "degraded", &[WIDE]).contains("field_drift"));
    crate::support::state::lose_position(&world, "doctor").await;
    daemon.kill();
    let daemon = world.start();
    daemon.until_phase("doctor", "resyncing").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(open(&daemon, "resyncing", &[WIDE]).contains("resync"));
    daemon.until_phase("doctor", "streaming").await;
    world.collection(DOCTORS).drop().await.unwrap();
    daemon.until_phase("doctor", "parked").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (name, flags) in [
        ("critical", &[WIDE][..]),
        ("critical-dark", &[WIDE, DARK]),
        ("critical-phone", &[PHONE, DARK]),
    ] {
        assert!(open(&daemon, name, flags).contains("source_dropped"));
    }
}

/// What a person told it, in a real browser: a stream that is paused, an incident that is muted.
#[ignore = "needs a Chromium on PATH: CI runs it with --ignored"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_and_muted_in_a_real_browser() {
    let world = world("").await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let told = |arguments: &[&str]| {
        let rest = ["--reason", "an index is built", "--execute"];
        let (code, said) = crate::support::run(&world, &[arguments, &rest].concat());
        assert_eq!(code, Some(0), "{said}");
    };
    let drift = mongodb::bson::doc! { "$set": { "existsInGmc": "perhaps" } };
    world.collection(DOCTORS).update_many(mongodb::bson::doc! {}, drift).await.unwrap();
    told(&["incident", "mute", "field_drift", "--until", "3h", "--by", "Mary"]);
    told(&["pause", "recommendation", "--until", "2h"]);
    daemon.until_phase("recommendation", "paused").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    for (name, flags) in [("told", &[WIDE][..]), ("told-phone-dark", &[PHONE, DARK])] {
        let dom = open(&daemon, name, flags);
        assert!(dom.contains("paused until") && dom.contains("not told until"), "{dom}");
    }
    for arguments in [&["status"][..], &["incident", "list"], &["resync", "list"]] {
        println!("{}", crate::support::run(&world, arguments).1);
    }
}

/// More streams than are shown whole, one of them busy and one parked, in a real browser.
#[ignore = "needs a Chromium on PATH: CI runs it with --ignored"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_many_streams_in_a_real_browser() {
    let streams: String =
        (0..40).map(|n| stream(&format!("t{n:02}"), &format!("c{n:02}"), "")).collect();
    let world = World::with(Config { streams, ..Config::default() }).await;
    for n in 0..40 {
        let collection = world.collection(&format!("c{n:02}"));
        collection.insert_one(mongodb::bson::doc! { "_id": 1 }).await.unwrap();
    }
    let daemon = world.start();
    for n in 0..40 {
        daemon.until_phase(&format!("t{n:02}"), "streaming").await;
    }
    world.collection("c17").drop().await.unwrap();
    daemon.until_phase("t17", "parked").await;
    let busy = world.collection("c05");
    let writer = tokio::spawn(async move {
        for n in 0.. {
            let set = mongodb::bson::doc! { "$set": { "n": n } };
            let _ = busy.update_one(mongodb::bson::doc! { "_id": 1 }, set).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(50)).await;
    for (name, flags) in
        [("many", &[WIDE][..]), ("many-dark", &[WIDE, DARK]), ("many-phone", &[PHONE])]
    {
        let dom = open(&daemon, name, flags);
        let (_, table) = dom.split_once("<tbody>").unwrap();
        assert!(dom.contains("type=\"search\"") && dom.contains("aria-sort"), "{dom}");
        assert!(table.starts_with("<tr id=\"s17\"") && table.contains("<path d="), "{dom}");
    }
    for (path, part) in [("/stream/t17", "source_dropped"), ("/stream/t05", "rows a second")] {
        let dom = open_at(&daemon, path, &path[8..], &[WIDE]);
        assert!(dom.contains(part), "{part} is not in {dom}");
    }
    writer.abort();
}
