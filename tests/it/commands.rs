//! The commands and the status address, as a person or a script meets them.

use devstack::Stack;
use devstack::revalidation::Revalidation;
use mongodb::bson::doc;

use crate::support::{
    Config, Daemon, World, eventually, run, state, status_of_the_well, stream, text,
};

#[tokio::test]
async fn check_names_what_is_missing_then_passes_and_changes_nothing() {
    let world = World::new().await;
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("table public.doctor does not exist"), "{told}");
    assert!(told.contains("`run` makes it, or `tidemark migrate`"));
    assert_eq!(
        world.scalar::<i64>("select count(*) from pg_namespace where nspname = 'tidemark'").await,
        0,
        "check changes nothing"
    );
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    assert!(run(&world, &["migrate"]).1.contains("nothing to do"));
    let (code, told) = run(&world, &["check"]);
    assert!(code == Some(1) && told.contains("the collection does not exist"), "{told}");
    Revalidation::new(world.source.clone(), 5).load(50, 50).await.unwrap();
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("replica set rs0") && told.contains("read from the oplog"), "{told}");
    world
        .execute(
            "alter table public.doctor drop column last_name; alter table \
             public.recommendation alter outcome type varchar(9)",
        )
        .await;
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("not there yet: column last_name of table public.doctor does not exist"),
        "{told}"
    );
    assert!(
        told.contains(
            "column outcome of table public.recommendation is character varying(9), the \
             configuration says text"
        ),
        "{told}"
    );
    let (_, json) = run(&world, &["check", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(findings.as_array().unwrap().iter().any(|finding| finding["ok"] == false));
}

/// What a release's gate relies on: each of these is refused, in one line that names it.
#[tokio::test]
async fn check_refuses_what_a_release_would_break_on() {
    let world = World::new().await;
    Revalidation::new(world.source.clone(), 5).load(50, 50).await.unwrap();
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    let failures = |world: &World| -> (Option<i32>, Vec<String>) {
        let (code, told) = run(world, &["check"]);
        (code, told.lines().filter(|line| line.starts_with("FAILED")).map(str::to_owned).collect())
    };
    assert_eq!(failures(&world), (Some(0), Vec::new()));
    let column = |name: &str, field: &str, kind: &str| {
        format!("column = [ {{ name = {name:?}, field = {field:?}, type = {kind:?} }} ]\n")
    };
    let with = |streams: String| {
        world.beside(&Config {
            streams,
            extra: "migrate.automatic = false\n".to_owned(),
            ..Config::default()
        })
    };
    for (streams, expected) in [
        (
            stream("doctor", "doctorsForDB", &column("honours", "honours", "text")),
            "column honours of table public.doctor",
        ),
        (
            stream("doctor", "doctorsForDBB", &column("admin", "admin", "text")),
            "collection does not exist",
        ),
        (
            stream("doctor", "doctorsForDB", &column("admin", "admin", "boolean")),
            "the configuration says boolean",
        ),
        (
            stream("doctor", "doctorsForDB", &column("exists_in_gmc", "admin", "boolean")),
            "exists_in_gmc takes none of 50 values",
        ),
    ] {
        let (code, failed) = failures(&with(streams));
        assert_eq!(code, Some(1), "{expected}");
        assert!(
            failed.iter().any(|line| line.contains(expected)),
            "{expected} is not in {failed:#?}"
        );
        assert!(failed.len() <= 2, "{failed:#?}");
    }
    // A user without rights.
    let user = devstack::unique("reader");
    world
        .execute(&format!(
            "create role {user} login; grant usage on schema public, tidemark to {user}; \
         grant select on all tables in schema public, tidemark to {user}"
        ))
        .await;
    let url = world.target_url.replace("tidemark@", &format!("{user}@"));
    let poor =
        world.beside(&Config { extra: format!("target.url = {url:?}\n"), ..Config::default() });
    let (code, failed) = failures(&poor);
    assert!(
        code == Some(1) && failed.iter().any(|line| line.contains("lacks insert, update, delete")),
        "{failed:#?}"
    );
    world.execute(&format!("drop owned by {user}; drop role {user}")).await;
}

#[tokio::test]
async fn errors_of_configuration_are_told_at_once_with_exit_78_and_usage_with_2() {
    let world = World::new().await;
    let output = world
        .command(&["check", "--offline"])
        .env("TIDEMARK__BATCH__EVENTS_MAX", "none")
        .env("TIDEMARK__SOURSE__URI", "x")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let told = text(&output);
    assert!(
        told.contains("2 configuration errors")
            && told.contains("TIDEMARK__BATCH__EVENTS_MAX")
            && told.contains("did you mean source.uri"),
        "{told}"
    );
    assert_eq!(run(&world, &["check", "--offline"]).0, Some(0));
    let (_, printed) = run(&world, &["check", "--offline", "--print"]);
    assert!(printed.contains("url = \"***\"") && !printed.contains("postgres://"), "{printed}");
    assert_eq!(run(&world, &["frobnicate"]).0, Some(2));
}

#[tokio::test]
async fn a_dependency_that_is_down_is_named_without_its_secrets() {
    // A port at which nobody else begins to listen meanwhile.
    let extra = "target.url = \"postgres://mary:hunter2@127.0.0.1:1/x\"".to_owned();
    let world = World::with(Config { extra, ..Config::default() }).await;
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("127.0.0.1:1/x as mary"), "{told}");
    assert!(!told.contains("hunter2"));
    assert_eq!(run(&world, &["status"]).0, Some(69));
}

#[tokio::test]
async fn status_is_read_from_postgres_whether_the_daemon_is_up_or_down() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 51);
    data.load(100, 100).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.until_phase("recommendation", "streaming").await;
    world
        .until(
            "the report says streaming",
            &format!("select bool_and(report ->> 'phase' = 'streaming') from {}", state::REPORTS),
        )
        .await;
    let told = status_of_the_well(&world).await;
    assert!(told.contains("healthy") && told.contains("streaming"), "{told}");
    let (code, told) = run(&world, &["status", "--stream", "doctor"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("stream doctor: healthy") && told.contains("public.doctor"), "{told}");
    let (code, told) = run(&world, &["status", "--stream", "doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &report["name"]), (Some(0), &"doctor".into()));
    let (code, told) = run(&world, &["status", "--stream", "nurse"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("there is no stream nurse; configured are doctor, "), "{told}");
    daemon.stop();
    let (code, told) = run(&world, &["status", "--json"]);
    assert_eq!(code, Some(2), "{told}");
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(report["verdict"], "critical");
    assert_eq!(report["action"], "nobody follows stream doctor: start tidemark");
    let group = &report["groups"][0];
    assert_eq!((&group["name"], &group["phase"]), (&"main".into(), &"standby".into()));
    assert_eq!(group["position"], report["streams"][0]["position"]);
    assert!(report["streams"][0]["position"]["resume_token"].as_str().unwrap().starts_with("82"));
}

#[tokio::test]
async fn healthcheck_asks_the_configured_listener() {
    let port = devstack::free_port().unwrap();
    let extra = format!("status.listen = \"0.0.0.0:{port}\"");
    let world = World::with(Config { extra, ..Config::default() }).await;
    let (code, told) = run(&world, &["healthcheck"]);
    assert_eq!(code, Some(1), "{told}");
    let _daemon = world.start();
    assert_eq!(run(&world, &["healthcheck"]).0, Some(0));
    let (code, told) = run(&world, &["run"]);
    assert_eq!(code, Some(78), "a port in use is told: {told}");
    assert!(told.contains(&port.to_string()));
}

/// The status, once all is measured and applied: of a group, as it stands in the snapshot, by its
/// first leader or a later one.
async fn measured(daemon: &Daemon) -> serde_json::Value {
    let mut status = serde_json::Value::Null;
    let is_measured = async || {
        status = daemon.status().await;
        let (group, stream) = (&status["groups"][0], &status["streams"][0]);
        let is_still = |of: &serde_json::Value| {
            let is_exact = of["exact"] == true && of["lag_seconds"] == 0.0;
            is_exact && of["phase"] == "streaming" && of["leader"] == true && of["failures"] == 0
        };
        status["verdict"] == "healthy"
            && is_still(group)
            && is_still(stream)
            && stream["headroom_seconds"].is_number()
            && group["headroom_seconds"].is_number()
            && stream["last_event_at"].is_string()
            && stream["events_applied"] == 1
    };
    eventually("all of it is measured", is_measured).await;
    status
}

#[tokio::test]
async fn the_status_has_the_shape_that_others_rely_on() {
    let world = World::new().await;
    world
        .collection("doctorsForDB")
        .insert_one(doc! { "_id": "1000001", "doctorStatus": "DRAFT" })
        .await
        .unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world
        .collection("doctorsForDB")
        .insert_one(doc! { "_id": "1000002", "doctorStatus": "DRAFT" })
        .await
        .unwrap();
    let mut status = measured(&daemon).await;
    assert!(
        status["streams"][0]["history_window_seconds"].as_f64()
            >= status["streams"][0]["headroom_seconds"].as_f64()
    );
    for part in ["streams", "groups"] {
        status[part].as_array_mut().unwrap().truncate(1);
    }
    for field in [
        "holder",
        "epoch",
        "phase_since",
        "last_poll_at",
        "last_commit_at",
        "history_window_seconds",
        "headroom_seconds",
        "position",
    ] {
        for part in ["streams", "groups"] {
            assert!(!status[part][0][field].is_null(), "{field}");
            status[part][0][field] = serde_json::json!(format!("[{field}]"));
        }
    }
    for field in ["source", "last_event_at"] {
        assert!(!status["streams"][0][field].is_null(), "{field}");
        status["streams"][0][field] = serde_json::json!(format!("[{field}]"));
    }
    insta::assert_json_snapshot!("status", status);
    let metrics = daemon.get("/metrics").await.1;
    let names: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    insta::assert_snapshot!("metric_names", names.join("\n"));
    assert!(daemon.get("/").await.1.contains("· tidemark "));
    daemon.until_readiness(200).await;
    assert_eq!(daemon.get("/readyz").await, (200, "{\"ready\":true,\"reasons\":[]}".to_owned()));
}

#[test]
fn the_help_says_what_there_is() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_tidemark")).arg("--help").output().unwrap();
    insta::assert_snapshot!("help", String::from_utf8_lossy(&output.stdout));
}

/// A user without the right to read, and one without the right to write: each is named, halts, and
/// goes on once mended.
#[tokio::test]
async fn missing_privileges_halt_with_their_code_and_heal() {
    let stack = Stack::shared();
    let database = stack.postgres.database().await.unwrap();
    let role = devstack::unique("weak");
    let mut admin = stack.postgres.connect(&database).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "create role {role} login; grant create on database \
         {database} to {role}; grant create on schema public \
         to {role}"
    )))
    .execute(&mut admin)
    .await
    .unwrap();
    let url = stack.postgres.url(&database).replace("tidemark@", &format!("{role}@"));
    let world = World::of(
        &stack.mongo.uri(),
        &url,
        Config { streams: stream("one", "one", ""), ..Config::default() },
    )
    .await;
    let daemon = world.start();
    daemon.until_phase("one", "streaming").await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "alter table public.one owner to tidemark; revoke all on public.one from {role}"
    )))
    .execute(&mut admin)
    .await
    .unwrap();
    world.collection("one").insert_one(doc! { "_id": 1 }).await.unwrap();
    let halted = daemon.until_phase("one", "halted").await;
    assert_eq!(halted["halt_code"], "target_unauthorised", "{halted:#}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "grant select, insert, update, delete on public.one to {role}"
    )))
    .execute(&mut admin)
    .await
    .unwrap();
    daemon.until_phase("one", "streaming").await;
    assert_eq!(world.until_equal("one", "public.one").await, 1);
}

#[test]
fn shells_complete_its_commands_and_each_has_a_manual_page() {
    let tidemark = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark"));
        let output = command.args(arguments).current_dir("/tmp").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = tidemark(&["completions", shell]);
        for word in ["dead-letter", "reload", "healthcheck"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = std::path::PathBuf::from(format!("/tmp/{}", devstack::unique("man")));
    let completes = folder.with_extension("bash");
    std::fs::write(&completes, tidemark(&["completions", "bash"])).unwrap();
    let read = std::process::Command::new("bash").arg("-n").arg(&completes).status().unwrap();
    assert!(read.success(), "bash reads it");
    tidemark(&["man", "--out", folder.to_str().unwrap()]);
    for page in ["tidemark", "tidemark-run", "tidemark-resync-approve"] {
        let text = std::fs::read_to_string(folder.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH") && text.contains("SYNOPSIS"), "{page}: {text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(&completes).unwrap();
}
