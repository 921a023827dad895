//! The status address among strangers: slow clients, many pages, names and tokens that are not its
//! own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use devstack::revalidation::{DOCTORS, Revalidation};
use reqwest::StatusCode;

use crate::support::{Config, Daemon, Stopwatch, World, run};

async fn world(address: &str, extra: &str) -> World {
    World::with(Config {
        extra: format!("status.listen = {address:?}\n{extra}"),
        ..Config::default()
    })
    .await
}

/// A client that sends this and waits.
fn connect(address: &str, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    stream
}

fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap().count()
}

async fn assert_alive(daemon: &Daemon) {
    let begun = Stopwatch::start();
    assert_eq!(daemon.get("/livez").await.0, 200);
    let took = begun.elapsed();
    // Less than a slow client is given.
    assert!(took < Duration::from_secs(4), "/livez took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_by_the_hundred_hinder_neither_the_probe_nor_the_stream() {
    const FILES: usize = 160;
    let world = world("127.0.0.1:0", "").await;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {FILES} && exec \"$0\" run --config \"$1\"")]);
    let log = world.config.with_file_name("limited.log");
    command
        .arg(env!("CARGO_BIN_EXE_tidemark"))
        .arg(&world.config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let daemon = Daemon::start(command, log);
    let address = daemon.address.clone();
    daemon.until_phase("doctor", "streaming").await;
    let mut slow: Vec<TcpStream> = Vec::new();
    let mut data = Revalidation::new(world.source.clone(), 81);
    for _ in 0..10 {
        slow.extend((0..60).map(|_| connect(&address, "GET / HTTP/1.1\r\nHost: local")));
        data.work(30).await.unwrap();
        assert_alive(&daemon).await;
        assert!(descriptors(&daemon) < FILES * 3 / 4, "{} are open", descriptors(&daemon));
    }
    // New connections at both ends need descriptors.
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = \
               current_database() and pid <> pg_backend_pid()";
    assert!(world.scalar::<i64>(cut).await > 0);
    data.work(30).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    // Those that were let in last are sent away, too, for being slow.
    let begun = Stopwatch::start();
    let mut last = slow.pop().unwrap();
    let _ = last.read_to_end(&mut Vec::new());
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_pages_left_open_are_a_few_and_the_rest_is_told() {
    let world = world("127.0.0.1:0", "").await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let view = || connect(&daemon.address, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = |stream: &mut TcpStream| {
        let mut head = [0; 12];
        stream
            .read_exact(&mut head)
            .map(|()| String::from_utf8_lossy(&head[9..]).into_owned())
            .unwrap_or_default()
    };
    let mut viewers = Vec::new();
    let (mut let_in, mut turned_away) = (0, 0);
    for _ in 0..500 {
        let mut viewer = view();
        match answer(&mut viewer).as_str() {
            "200" => let_in += 1,
            "503" => turned_away += 1,
            other => panic!("{other}"),
        }
        viewers.push(viewer);
    }
    assert_eq!((let_in, turned_away), (64, 436));
    assert_alive(&daemon).await;
    assert!(descriptors(&daemon) < 400, "{} are open", descriptors(&daemon));
    let mut data = Revalidation::new(world.source.clone(), 82);
    data.load(100, 20).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    drop(viewers);
    let deadline = Instant::now() + Duration::from_secs(60);
    while answer(&mut view()) != "200" {
        assert!(Instant::now() < deadline, "no place became free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_token_is_asked_of_all_but_the_probes_and_told_nobody() {
    let port = devstack::free_port().unwrap();
    let world = world(&format!("0.0.0.0:{port}"), "").await;
    let open = world.start();
    assert!(open.log().contains("asks for no token"), "{}", open.log());
    let (_, told) = run(&world, &["check"]);
    assert!(told.contains("asks for no token") && told.contains("status.token_file"), "{told}");
    open.kill();

    let file = world.config.with_file_name("token");
    std::fs::write(&file, "correct-horse\n").unwrap();
    let mut daemon = world.start_with(&[("TIDEMARK__STATUS__TOKEN_FILE", file.to_str().unwrap())]);
    assert!(!daemon.log().contains("asks for no token"));
    daemon.address = format!("127.0.0.1:{port}");
    let client = tidemark::http_client::client();
    let get = |path: &str| client.get(format!("http://{}{path}", daemon.address));
    for path in ["/", "/status", "/metrics", "/events", "/page.js", "/nowhere"] {
        let answer = get(path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(
            answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "),
            "a browser asks for it"
        );
        assert!(answer.headers().contains_key("content-security-policy"));
    }
    assert_eq!(
        get("/status").bearer_auth("wrong-horse").send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        get("/metrics").bearer_auth("correct-horse").send().await.unwrap().status(),
        StatusCode::OK
    );
    let page = get("/").basic_auth("anybody", Some("correct-horse")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["cache-control"], "no-store");
    assert_eq!(daemon.get("/livez").await.0, 200);
    daemon.until_readiness(200).await;
    assert_eq!(run(&world, &["healthcheck"]).0, Some(0));
    // Another one is asked for as soon as it is there; a file in the middle of that opens no door.
    let asked =
        async |token: &str| get("/status").bearer_auth(token).send().await.unwrap().status();
    std::fs::write(&file, "").unwrap();
    assert_eq!(asked("").await, StatusCode::UNAUTHORIZED);
    assert_eq!(asked("correct-horse").await, StatusCode::OK);
    std::fs::write(&file, "battery-horse\n").unwrap();
    assert_eq!(asked("correct-horse").await, StatusCode::UNAUTHORIZED);
    assert_eq!(asked("battery-horse").await, StatusCode::OK);
    assert_eq!(daemon.stop().0, Some(0));
    assert!(!daemon.log().contains("horse"), "{}", daemon.log());
}

#[tokio::test]
async fn a_name_that_is_not_its_own_is_not_answered_to() {
    let world = world("127.0.0.1:0", "status.hosts = [\"tidemark.example\"]\n").await;
    let daemon = world.start();
    let client = tidemark::http_client::client();
    for (host, expected) in [
        ("rebound.example", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1", StatusCode::OK),
        ("localhost:1", StatusCode::OK),
        ("[::1]:9464", StatusCode::OK),
        ("tidemark.example:9464", StatusCode::OK),
    ] {
        let answer = client
            .get(format!("http://{}/status", daemon.address))
            .header("host", host)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), expected, "{host}");
        let probe = client
            .get(format!("http://{}/livez", daemon.address))
            .header("host", host)
            .send()
            .await
            .unwrap();
        assert_eq!(probe.status(), StatusCode::OK, "{host}");
    }
}
