//! systemd's side of the unit: what is told to the socket it names, over the life of a daemon.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::{Config, World};

/// Waits until this is told; what was told before it.
fn until_told(manager: &UnixDatagram, word: &str) -> Vec<String> {
    let (deadline, mut before) = (Instant::now() + Duration::from_secs(60), Vec::new());
    loop {
        let mut heard = [0; 256];
        if let Ok(length) = manager.recv(&mut heard) {
            let told = String::from_utf8_lossy(&heard[..length]).into_owned();
            if told == word {
                return before;
            }
            before.push(told);
        }
        assert!(Instant::now() < deadline, "{word} was not told; before it: {before:?}");
    }
}

/// Ready does not hang on a database: nobody answers at these addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_of_the_start_each_turn_a_reload_and_the_end() {
    let config = || Config { extra: "retry.delay_max = \"2s\"\n".to_owned(), ..Config::default() };
    let nowhere = "mongodb://127.0.0.1:9/?replicaSet=rs0&serverSelectionTimeoutMS=300";
    let world = World::of(nowhere, "postgres://tidemark@127.0.0.1:9/none", config()).await;
    let socket = world.config.with_file_name("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let name = socket.display().to_string();
    let mut daemon = world.start_with(&[("NOTIFY_SOCKET", &name)]);

    assert_eq!(until_told(&manager, "READY=1"), Vec::<String>::new(), "the first word");
    assert_eq!(daemon.get("/livez").await.0, 200, "served by then");
    for _ in 0..2 {
        until_told(&manager, "WATCHDOG=1");
    }
    // Refused as a whole, since neither end answers; the service goes on.
    world.configure(&Config { extra: "batch.events_max = 7\n".to_owned(), ..Config::default() });
    daemon.signal("HUP");
    let reloading = until_told(&manager, "RELOADING=1");
    assert!(reloading.iter().all(|word| word == "WATCHDOG=1"), "{reloading:?}");
    until_told(&manager, "READY=1");
    let begun = Instant::now();
    while !daemon.log().contains("the configuration is refused") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_told(&manager, "WATCHDOG=1");

    assert_eq!(daemon.stop().0, Some(0));
    let stopping = until_told(&manager, "STOPPING=1");
    assert!(stopping.iter().all(|word| word == "WATCHDOG=1"), "{stopping:?}");
}
