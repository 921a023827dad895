//! From nothing to followed tables: `init` on databases of known shapes, and what it proposed taken
//! as it is.

mod arrays;
mod data;
mod nested;
mod unreadable;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use mongodb::bson::{Document, doc};
use serde_json::Value;

use crate::support::{Daemon, World, text};

/// In every text of every document: none of it may be told.
pub const CANARY: &str = "c4n4ry";

/// A newcomer: the two ends are in the environment, and there is no configuration.
struct Newcomer {
    world: World,
    file: PathBuf,
}

impl Newcomer {
    async fn new() -> Self {
        let world = World::new().await;
        let file = world.config.with_file_name("proposed.toml");
        Self { world, file }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The binary as it is called where nothing is configured but the ends.
    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(self.world.command(&[]).get_program());
        command.args(arguments).current_dir(self.file.parent().unwrap());
        command.envs([
            ("TIDEMARK__SOURCE__URI", &*self.world.source_uri),
            ("TIDEMARK__SOURCE__DATABASE", &*self.world.name),
            ("TIDEMARK__TARGET__URL", &*self.world.target_url),
            ("TIDEMARK__STATUS__LISTEN", "127.0.0.1:0"),
            ("TIDEMARK__CHECKPOINT__IDLE_INTERVAL", "500ms"),
            ("TIDEMARK__LOG__FORMAT", "json"),
        ]);
        command
    }

    fn configured(&self, arguments: &[&str]) -> Output {
        self.run(&[arguments, &["--config", self.file.to_str().unwrap()]].concat())
    }

    fn init(&self, arguments: &[&str]) -> String {
        let out = ["init", "--out", self.file.to_str().unwrap()];
        let output = self.run(&[&out, arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        self.proposed()
    }

    /// Without what is another in each run.
    fn proposed(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap().replace(&self.world.name, "DATABASE")
    }

    /// `check` proves it, `run` follows it, `compare` finds nothing, and the rows are as many as
    /// the documents; all of it as it was proposed.
    async fn follow(&self, streams: &[(&str, u64)]) -> Daemon {
        let daemon = self.start();
        for (stream, documents) in streams {
            daemon.until_phase(stream, "streaming").await;
            let compared = self.configured(&["compare", stream, "--json"]);
            let report: Value = serde_json::from_slice(&compared.stdout).unwrap();
            let report = &report["compared"];
            assert_eq!(compared.status.code(), Some(0), "{stream}: {report:#}");
            assert_eq!(report["documents"], *documents, "{stream}: {report:#}");
            assert_eq!(report["rows"], *documents, "{stream}: {report:#}");
            // Whatever was seen fits its column.
            let drift = &daemon.stream(stream).await["drift"];
            assert_eq!(drift.as_array().map_or(0, Vec::len), 0, "{stream}: {drift:#}");
        }
        daemon
    }

    /// `run`, once `check` has proved what was proposed.
    fn start(&self) -> Daemon {
        let checked = self.configured(&["check"]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
        let log = self.file.with_file_name("proposed.log");
        let mut command = self.command(&["run", "--config", self.file.to_str().unwrap()]);
        command.stdout(std::process::Stdio::null());
        command.stderr(std::fs::File::create(&log).unwrap());
        Daemon::start(command, log)
    }

    async fn insert(&self, collection: &str, documents: Vec<Document>) {
        self.world.collection(collection).insert_many(documents).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_databases_of_known_shapes_get_the_columns_a_person_would_have_chosen() {
    let newcomer = Newcomer::new().await;
    for (name, documents) in data::all() {
        newcomer.insert(name, documents).await;
    }
    let proposed = newcomer.init(&["--all"]);
    assert!(!proposed.contains(CANARY), "what documents hold was told:\n{proposed}");
    insta::assert_snapshot!("proposed", proposed);
    let streams = data::all().map(|(name, documents)| (name, documents.len() as u64));
    let daemon = newcomer.follow(&streams).await;
    let first: (String, String, f64) = newcomer
        .world
        .row(
            "select max(customer_name), min(address_country), max(total)::float8 from orders \
             where placed_at is not null and tags is not null",
        )
        .await;
    assert_eq!((&*first.1, first.2 > 10.0), ("GB", true), "{first:?}");
    let (films, years): (i64, i64) = newcomer
        .world
        .row("select count(*), count(year) from films where year ~ '^[0-9]{4}'")
        .await;
    assert!(films > 290 && films == years, "{films} {years}");
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_odd_is_followed_or_said_why_not() {
    let newcomer = Newcomer::new().await;
    let source = &newcomer.world.source;
    let long = "aVeryLongName".repeat(8);
    let odd =
        vec![doc! { "_id": 1, "id": 7, "doc": "x", "ctid": 1, "User Name": "a", "user-name": "b",
        "userName": "c", "$cost": 1.5, long.clone(): 1, format!("{long}2"): 2, "2fa": true,
        "_hash": "h", "Größe": 3, "": 1, "nested": { "a.b": 1 }, "line\nbreak": 1,
        "byId": { "5f3e0c1a2b3c4d5e6f708192": 1 }, "quote\"\\": 1, "\u{202e}turned": 1 }];
    newcomer.insert("Odd-Names.of things", odd).await;
    newcomer.insert("odd_names_of_things", vec![doc! { "_id": 1, "a": 1 }]).await;
    newcomer.insert("main", vec![doc! { "_id": { "year": 2026, "n": 1 }, "v": true }]).await;
    newcomer.insert("größe", vec![doc! { "_id": "x" }]).await;
    let wide = (0..3).map(|n| {
        let mut wide = doc! { "_id": n };
        wide.extend((0..1_000).map(|field| (format!("f{field:03}"), field.into())));
        wide
    });
    newcomer.insert("wide", wide.collect()).await;
    source.create_collection("empty").await.unwrap();
    let view = doc! { "create": "a_view", "viewOn": "wide", "pipeline": [] };
    source.run_command(view).await.unwrap();
    let series = doc! { "create": "series", "timeseries": { "timeField": "at" } };
    source.run_command(series).await.unwrap();

    let proposed = newcomer.init(&[]);
    insta::assert_snapshot!("odd", proposed);
    let streams = [
        ("odd_names_of_things", 1),
        ("odd_names_of_things_2", 1),
        ("main_collection", 1),
        ("gr_e", 1),
        ("wide", 3),
        ("empty", 0),
    ];
    let daemon = newcomer.follow(&streams).await;
    let row: (i32, String, i32) = newcomer
        .world
        .row("select id_field, user_name_3, \"größe\" from odd_names_of_things")
        .await;
    assert_eq!(row, (7, "c".to_owned(), 3));
    daemon.kill();

    for (name, why) in [
        ("a_view", "a view: follow the collection it is made of"),
        ("series", "a time series has no change stream"),
        ("nothing", "there is no collection"),
    ] {
        let refused = newcomer.run(&["init", "--collection", name]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused).contains(why), "{}", text(&refused));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_extended_and_never_replaced_unasked() {
    let newcomer = Newcomer::new().await;
    for name in ["orders", "flights"] {
        let (_, documents) = data::all().into_iter().find(|(known, _)| *known == name).unwrap();
        newcomer.insert(name, documents).await;
    }
    let first = newcomer.init(&["--collection", "orders"]);
    assert!(first.contains("\"orders\"") && !first.contains("flights"), "{first}");
    // What an editor looks for is where the first line says.
    assert!(first.starts_with("#:schema ./tidemark.schema.json\n"), "{first}");
    let schema = std::fs::read(newcomer.file.with_file_name("tidemark.schema.json")).unwrap();
    assert_eq!(schema, newcomer.run(&["schema"]).stdout);
    let file = newcomer.file.to_str().unwrap();

    let refused = newcomer.run(&["init", "--all", "--out", file]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("is there already"), "{}", text(&refused));
    assert_eq!(newcomer.proposed(), first);

    let refused = newcomer.run(&["init", "--add", "orders", "--out", file]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("is followed already"), "{}", text(&refused));

    let broken = format!("{first}\nsurprise = true\n");
    std::fs::write(&newcomer.file, &broken).unwrap();
    let refused = newcomer.run(&["init", "--add", "flights", "--out", file]);
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
    assert_eq!(std::fs::read_to_string(&newcomer.file).unwrap(), broken);
    std::fs::write(&newcomer.file, first.replace("DATABASE", &newcomer.world.name)).unwrap();

    let printed = newcomer.configured(&["init", "--add", "flights"]);
    let block = String::from_utf8(printed.stdout).unwrap();
    assert!(block.starts_with("\n[[stream]]") && !block.contains("[source]"), "{block}");
    assert_eq!(newcomer.proposed(), first, "it is only printed");
    // It may hold secrets by now.
    std::fs::set_permissions(&newcomer.file, PermissionsExt::from_mode(0o600)).unwrap();
    let both = newcomer.init(&["--add", "flights"]);
    assert_eq!(newcomer.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(both, format!("{first}{block}"));
    let left: Vec<_> = std::fs::read_dir(newcomer.file.parent().unwrap())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".proposed"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    newcomer.follow(&[("orders", 300), ("flights", 300)]).await.kill();

    let replaced = newcomer.init(&["--collection", "flights", "--force"]);
    assert!(!replaced.contains("\"orders\""), "{replaced}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survey_is_json_and_holds_no_document_either() {
    let newcomer = Newcomer::new().await;
    for (name, documents) in data::all() {
        newcomer.insert(name, documents).await;
    }
    let output = newcomer.run(&["init", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!text(&output).contains(CANARY));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let collections = told["collections"].as_array().unwrap();
    assert_eq!(collections.len(), 6, "{collections:#?}");
    assert_eq!(told["streams"][0]["sampled"], 300, "{told:#}");
    assert_eq!(told["streams"][0]["doc"], true);
    assert_eq!(told["streams"][3]["children"], serde_json::json!([]), "unasked there are none");
    let column = &told["streams"][0]["columns"][0];
    let keys: Vec<&String> = column.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 7, "{keys:?}");
}

/// One that is large is looked into without reading it all, and as quickly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_a_look_does_not_grow_with_the_collection() {
    let newcomer = Newcomer::new().await;
    let filler = "x".repeat(20_000);
    for from in (0..5_000).step_by(500) {
        let batch = (from..from + 500).map(|n| doc! { "_id": n, "filler": &filler, "n": n });
        newcomer.insert("large", batch.collect()).await;
    }
    let late: Vec<Document> = (5_000..5_010).map(|n| doc! { "_id": n, "late": true }).collect();
    newcomer.insert("large", late).await;
    let proposed = newcomer.init(&["--all"]);
    // 100 MB of 5,010 documents are too many to be picked from at random: both ends are read.
    assert!(proposed.contains("500 looked at"), "{proposed}");
    assert!(proposed.contains("field = \"late\", type = \"boolean\""), "{proposed}");
}
