//! Passwords that change while streams are followed: no restart, no halt, no incident, nothing
//! lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use devstack::{Fakes, Mongo, MongoOptions, Postgres, PostgresOptions, Stack};
use mongodb::bson::doc;

use crate::certificates::{until_more, write_on};
use crate::channels::{Bench, halted, lost, observed, well};
use crate::support::{Config, World, stream};

const ACCESS: &str =
    "host all tidemark 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A secret is replaced as a mounted one is: whole, under its name.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

struct Ends {
    mongo: Mongo,
    postgres: Postgres,
    world: World,
    uri_file: std::path::PathBuf,
    url_file: std::path::PathBuf,
}

impl Ends {
    async fn new(extra: impl Fn(&Path, &Path) -> String) -> Self {
        let mongo =
            Mongo::start(&MongoOptions { proxied: true, ..MongoOptions::small_oplog() }).unwrap();
        let postgres = Postgres::start(&PostgresOptions {
            access: Some(ACCESS.to_owned()),
            ..PostgresOptions::default()
        })
        .unwrap();
        let folder = std::env::temp_dir().join(devstack::unique("tidemark-rotation"));
        std::fs::create_dir_all(&folder).unwrap();
        let (uri_file, url_file) = (folder.join("uri"), folder.join("url"));
        let database = postgres.database().await.unwrap();
        let config = Config {
            extra: extra(&uri_file, &url_file),
            streams: stream("doctor", "doctorsForDB", ""),
            ..Config::default()
        };
        let world = World::of(&mongo.uri(), &postgres.url(&database), config).await;
        world.execute("create role follower login superuser password 'aleph-71'").await;
        let user = doc! { "createUser": "follower", "pwd": "aleph-71", "roles": ["root"] };
        mongo.client().await.unwrap().database("admin").run_command(user).await.unwrap();
        Self { mongo, postgres, world, uri_file, url_file }
    }

    fn uri(&self, login: &str) -> String {
        format!(
            "mongodb://{login}@{}/?replicaSet=rs0&authSource=admin",
            self.mongo.hosts().join(",")
        )
    }

    fn url(&self, login: &str) -> String {
        let database = self.world.target_url.rsplit('/').next().unwrap();
        format!("postgres://{login}@127.0.0.1:{}/{database}", self.postgres.port())
    }

    /// At the servers; then every session of the daemon's ends, so that all log in anew.
    async fn rotate(&self, password: &str, publish: impl FnOnce()) {
        let user = doc! { "updateUser": "follower", "pwd": password };
        self.mongo.client().await.unwrap().database("admin").run_command(user).await.unwrap();
        self.world.execute(&format!("alter role follower password '{password}'")).await;
        self.mongo.proxy(0).unwrap().cut();
        let end =
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'follower'";
        self.world.execute(end).await;
        // What is refused meanwhile is no person's matter: the new password is on its way.
        tokio::time::sleep(Duration::from_secs(2)).await;
        publish();
    }

    async fn stay_quiet(&self, daemon: &crate::support::Daemon) {
        assert_eq!(
            self.world.scalar::<i64>("select count(*) from tidemark.incident").await,
            0,
            "{}",
            daemon.log()
        );
        assert!(
            !daemon.phases("doctor").contains(&"halted".to_owned()),
            "{:?}",
            daemon.phases("doctor")
        );
        for secret in ["aleph-71", "beth-72", "gimel-73"] {
            assert!(!daemon.log().contains(secret), "{}", daemon.log());
        }
    }

    async fn follow(&self, mut rotate: impl AsyncFnMut(&str)) {
        let doctors = self.world.collection("doctorsForDB");
        let stop = Arc::new(AtomicBool::new(false));
        let mut daemon = self.world.start();
        daemon.until_phase("doctor", "streaming").await;
        // The proxy is cut for the writer, too.
        let writer = write_on(doctors.clone(), Arc::clone(&stop));
        for (number, password) in ["beth-72", "gimel-73"].into_iter().enumerate() {
            let marker = format!("after-{number}");
            until_more(&self.world).await;
            rotate(password).await;
            let insert = || async { doctors.insert_one(doc! { "_id": &marker }).await };
            while insert().await.is_err_and(|error| !error.to_string().contains("E11000")) {}
            let sql = format!("select exists (select from public.doctor where id = '{marker}')");
            self.world.until("what is written after the change arrives", &sql).await;
        }
        until_more(&self.world).await;
        stop.store(true, Ordering::Relaxed);
        writer.await.unwrap();
        self.world.until_equal("doctorsForDB", "doctor").await;
        self.stay_quiet(&daemon).await;
        assert_eq!(daemon.stop().0, Some(0));
    }
}

/// What is to be told waits for the new secret, and is told with it.
#[tokio::test]
async fn secrets_of_channels_change_while_an_incident_is_told() {
    for channel in ["bot", "webhook"] {
        let fakes = Fakes::start().unwrap();
        let folder = std::env::temp_dir().join(devstack::unique("tidemark-channels"));
        std::fs::create_dir_all(&folder).unwrap();
        let publish = |token: &str| {
            write(&folder.join("token"), token);
            write(&folder.join("webhook"), &fakes.webhook_url());
            write(&folder.join("dsn"), &fakes.dsn());
        };
        publish("xoxb-fake-token");
        let file = |name: &str| folder.join(name).display().to_string();
        let slack = match channel {
            "bot" => format!(
                "alert.slack.bot_token_file = {:?}\nalert.slack.channel = \"C0FAKE\"\n\
                 alert.slack.api_base = \"{}/slack/api\"\n",
                file("token"),
                fakes.base()
            ),
            _ => format!("alert.slack.webhook_url_file = {:?}\n", file("webhook")),
        };
        let extra = format!("{slack}alert.sentry.dsn_file = {:?}\n", file("dsn"));
        let stack = Stack::shared();
        let url = stack.postgres.url(&stack.postgres.database().await.unwrap());
        let mut bench = Bench::of(fakes.clone(), &url, extra).await;
        bench.turns(5, 3, lost).await;
        let told = |fakes: &Fakes| match channel {
            "bot" => fakes.messages().len(),
            _ => fakes.webhooked().len(),
        };
        assert_eq!((told(&fakes), fakes.events().len()), (1, 1), "{channel}");
        // They change there first: nothing passes, until they have changed here.
        fakes.change_secrets("xoxb-another", "B0OTHER", "anotherkey");
        bench.turns(60, 10, well).await;
        let again = |bench: &Bench| observed(vec![halted("doctor", "history_lost", bench)]);
        bench.turns(60, 3, again).await;
        assert_eq!((told(&fakes), fakes.events().len()), (1, 1), "{channel}");
        publish("xoxb-another");
        bench.turns(60, 40, again).await;
        assert!(told(&fakes) > 2, "{channel}: the first one's end and the second are told");
        assert_eq!(fakes.events().len(), 2, "{channel}");
        let waiting = "select count(*) from tidemark.outbox where pending";
        assert_eq!(bench.world.scalar::<i64>(waiting).await, 0, "{channel}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_in_files_change_while_streams_are_followed() {
    let ends =
        Ends::new(|uri, url| format!("source.uri_file = {uri:?}\ntarget.url_file = {url:?}\n"))
            .await;
    let publish = |password: &str| {
        write(&ends.uri_file, &ends.uri(&format!("follower:{password}")));
        write(&ends.url_file, &ends.url(&format!("follower:{password}")));
    };
    publish("aleph-71");
    ends.follow(async |password| ends.rotate(password, || publish(password)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_that_a_command_says_change_while_streams_are_followed() {
    let ends = Ends::new(|uri, url| {
        // The files hold the passwords here; the strings stand in the configuration.
        let command = |path: &Path| format!("cat {}", path.display());
        format!(
            "source.uri_file = {:?}\ntarget.url_file = {:?}\nsource.password_command = \
             {:?}\ntarget.password_command = {:?}\n",
            uri.with_extension("string"),
            url.with_extension("string"),
            command(uri),
            command(url)
        )
    })
    .await;
    let publish = |password: &str| {
        write(&ends.uri_file, &format!("{password}\n"));
        write(&ends.url_file, &format!("{password}\n"));
    };
    write(&ends.uri_file.with_extension("string"), &ends.uri("follower"));
    write(&ends.url_file.with_extension("string"), &ends.url("follower"));
    publish("aleph-71");
    ends.follow(async |password| ends.rotate(password, || publish(password)).await).await;
}
