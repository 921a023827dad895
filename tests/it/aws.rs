//! Logins by IAM (`MONGODB-AWS`), as Amazon DocumentDB and Atlas take them: a stand-in computes
//! each signature anew, and lets through to a real mongod whoever's is right.

use std::sync::{Arc, Mutex};

use axum::routing::get;
use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use devstack::{AccessKey, DocumentDb, Engine, Mongo, MongoOptions, Proxy, Stack};
use mongodb::bson::doc;
use serde_json::json;

use crate::support::{Config, Daemon, World, eventually, text};

/// Nothing of the machine that the test runs on.
const ALONE: [(&str, &str); 4] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_REGION", "eu-west-2"),
    ("AWS_CONFIG_FILE", "/nowhere"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
];

fn key(name: &str) -> AccessKey {
    AccessKey {
        id: format!("AKIA{name}"),
        secret: format!("s3cr3t/of+{name}"),
        session_token: Some(format!("t0k3n/of+{name}==")),
    }
}

struct Ends {
    _mongo: Mongo,
    wire: Proxy,
    documentdb: DocumentDb,
    world: World,
}

impl Ends {
    /// `login` is what stands before the host.
    async fn new(login: &str, options: &str) -> Self {
        let mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
        let wire = Proxy::to(mongo.port()).unwrap();
        let engine = Engine { iam: true, ..Engine::default() };
        let documentdb = DocumentDb::before(wire.port(), engine).unwrap();
        let database = Stack::shared().postgres.database().await.unwrap();
        let uri = documentdb.uri().replace("mongodb://", &format!("mongodb://{login}"));
        let uri = format!("{uri}&authMechanism=MONGODB-AWS{options}");
        let extra = format!("source.uri = {uri:?}\n");
        let config = Config { extra, ..Config::default() };
        let url = Stack::shared().postgres.url(&database);
        let world = World::of(&mongo.uri(), &url, config).await;
        Self { _mongo: mongo, wire, documentdb, world }
    }

    fn check(&self, environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = self.world.command(&["check"]);
        let output = command.envs(ALONE).envs(environment.iter().copied()).output().unwrap();
        (output.status.code(), text(&output))
    }

    fn start(&self, environment: &[(&str, &str)]) -> Daemon {
        // At every level, nothing secret is logged.
        let all = [("TIDEMARK__LOG__FILTER", "trace")];
        self.world.start_with(&[&ALONE[..], &all, environment].concat())
    }

    async fn until_equal(&self) {
        self.world.until_equal(DOCTORS, "public.doctor").await;
        self.world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    }

    /// What nobody is to see was not told.
    fn nothing_was_told(&self, told: &[String]) {
        assert_eq!(self.documentdb.leaked(), [""; 0]);
        for told in told {
            assert!(!told.contains("s3cr3t") && !told.contains("t0k3n"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_working_day_is_followed_by_a_key_of_the_environment_and_one_of_the_uri() {
    let temporary = key("TEMPORARY");
    let environment = [
        ("AWS_ACCESS_KEY_ID", temporary.id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", temporary.secret.as_str()),
        ("AWS_SESSION_TOKEN", temporary.session_token.as_deref().unwrap()),
    ];
    let escaped = |text: &str| text.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    let login = format!("{}:{}@", temporary.id, escaped(&temporary.secret));
    let token = escaped(temporary.session_token.as_deref().unwrap());
    let property = format!("&authMechanismProperties=AWS_SESSION_TOKEN:{token}");
    for (login, options, environment, words) in [
        ("", "", &environment[..], "with the key that AWS gives this process"),
        (&login, &property, &[], "with the access key in source.uri"),
    ] {
        let ends = Ends::new(login, options).await;
        ends.documentdb.admit(std::slice::from_ref(&temporary));
        let mut data = Revalidation::new(ends.world.source.clone(), 91);
        data.load(300, 100).await.unwrap();
        let (code, told) = ends.check(environment);
        assert!(code == Some(0) && told.contains(words), "{told}");
        let mut daemon = ends.start(environment);
        daemon.until_phase("doctor", "streaming").await;
        data.work(500).await.unwrap();
        ends.until_equal().await;
        assert_eq!(daemon.stop().0, Some(0));
        let logins = ends.documentdb.logins();
        assert!(logins.len() > 1 && logins.iter().all(|id| *id == temporary.id), "{logins:?}");
        assert_eq!(ends.documentdb.refused_logins(), [""; 0]);
        ends.nothing_was_told(&[told, daemon.log()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_is_told_with_what_to_do_and_goes_on_once_it_is_let_in() {
    let ends = Ends::new("", "").await;
    // No key at all is another matter than one that is not let in.
    let (code, told) = ends.check(&[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("no AWS key could be had") && told.contains("give the process an AWS"),
        "{told}"
    );
    let stranger = key("STRANGER");
    let environment = [
        ("AWS_ACCESS_KEY_ID", stranger.id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", stranger.secret.as_str()),
        ("AWS_SESSION_TOKEN", stranger.session_token.as_deref().unwrap()),
    ];
    // The stand-in knows the id, and another secret than this.
    let other = AccessKey { secret: "an0ther".to_owned(), ..stranger.clone() };
    ends.documentdb.admit(&[other]);
    let mut daemon = ends.start(&environment);
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_unauthorised", "{halted:#}");
    ends.world
        .until(
            "the incident is told",
            "select exists (select from tidemark.incident where code = 'source_unauthorised')",
        )
        .await;
    let (code, told) = ends.check(&environment);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("mongodb refused the login by MONGODB-AWS") && told.contains("in $external"),
        "{told}"
    );
    let refusals = ends.documentdb.refused_logins();
    assert!(
        refusals.iter().all(|why| why == "another signature than the key's"),
        "only what is wrong is refused: {refusals:?}"
    );
    ends.documentdb.admit(&[stranger]);
    ends.world.collection(DOCTORS).insert_one(doc! { "_id": "1" }).await.unwrap();
    daemon.until_phase("doctor", "streaming").await;
    ends.until_equal().await;
    assert_eq!(daemon.stop().0, Some(0));
    ends.nothing_was_told(&[told, daemon.log()]);
}

/// What a container is told at `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
async fn keeper(given: Arc<Mutex<AccessKey>>) -> String {
    let answer = move || {
        let key = given.lock().unwrap().clone();
        let until = chrono::Utc::now() + chrono::TimeDelta::minutes(5);
        let body = json!({
            "AccessKeyId": key.id, "SecretAccessKey": key.secret, "Token": key.session_token,
            "Expiration": until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        });
        async move { axum::Json(body) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/key", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/key")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_container_is_replaced_under_load_without_a_halt() {
    let ends = Ends::new("", "").await;
    let keys = ["ALEPH", "BETH", "GIMEL"].map(key);
    let given = Arc::new(Mutex::new(keys[0].clone()));
    let place = keeper(Arc::clone(&given)).await;
    ends.documentdb.admit(&keys[..1]);
    let mut data = Revalidation::new(ends.world.source.clone(), 92);
    data.load(300, 100).await.unwrap();
    let mut daemon = ends.start(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &place)]);
    daemon.until_phase("doctor", "streaming").await;
    for key in &keys[1..] {
        data.work(300).await.unwrap();
        // The one before ends at the server first, and every wire with it.
        let refused = ends.documentdb.refused_logins().len();
        ends.documentdb.admit(std::slice::from_ref(key));
        ends.wire.cut();
        data.work(300).await.unwrap();
        let is_refused = async || ends.documentdb.refused_logins().len() > refused;
        eventually("the key before is refused", is_refused).await;
        given.lock().unwrap().clone_from(key);
        data.work(300).await.unwrap();
        ends.until_equal().await;
        assert!(ends.documentdb.logins().contains(&key.id));
    }
    let told = ends.world.column("select code from tidemark.incident").await;
    assert_eq!(told, [""; 0], "{}", daemon.log());
    assert!(!daemon.phases("doctor").contains(&"halted".to_owned()));
    assert_eq!(daemon.stop().0, Some(0));
    ends.nothing_was_told(&[daemon.log()]);
}
