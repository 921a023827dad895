//! The page an operator opens: it reads without JavaScript, is live, loads nothing from elsewhere,
//! and says what is so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;

use crate::alerting::seed;
use crate::support::{Config, Daemon, World};

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
    let html = answer.text().await.unwrap();
    for part in [
        "Healthy",
        "There is nothing to do",
        "headroom",
        "<svg",
        "led here",
        "Configuration",
        "http-equiv=\"refresh\"",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    assert!(
        !html.contains("style=") && !html.contains("onclick") && !html.contains("://"),
        "{html}"
    );
    // Live: a change shows in the stream of events.
    let mut events = reqwest_get(&daemon, "/events").await.bytes_stream();
    world.collection(DOCTORS).drop().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let mut text = String::new();
    while !(text.contains("source_dropped") && text.contains("Critical")) {
        let part =
            tokio::time::timeout_at(deadline, events.next()).await.unwrap().unwrap().unwrap();
        text = String::from_utf8_lossy(&part).into_owned();
    }
    assert!(text.starts_with("data: "), "{text}");
}

async fn reqwest_get(daemon: &Daemon, path: &str) -> reqwest::Response {
    let client = tidemark::http_client::builder().timeout(Duration::from_secs(60)).build().unwrap();
    client.get(format!("http://{}{path}", daemon.address)).send().await.unwrap()
}

/// A browser, opening the page for a few seconds: what its document came to, and a picture of it.
fn open(daemon: &Daemon, name: &str, flags: &[&str]) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("http://{}/", daemon.address);
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
    daemon.until_phase("doctor", "halted").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (name, flags) in [
        ("critical", &[WIDE][..]),
        ("critical-dark", &[WIDE, DARK]),
        ("critical-phone", &[PHONE, DARK]),
    ] {
        assert!(open(&daemon, name, flags).contains("source_dropped"));
    }
}
