//! The webhook of anybody's: signed, told again as the other channels are, and what the docs say to
//! do with it works.

use std::io::Write as _;
use std::process::{Command, Stdio};

use devstack::{Behaviour, Delivered, Fakes, RECEIVER_SECRET, Stack};
use serde_json::{Value, json};

use crate::channels::{Bench, header, lost, well};
use crate::support::{Config, World, run};

async fn bench(extra: &str) -> Bench {
    let fakes = Fakes::start().unwrap();
    let stack = Stack::shared();
    let url = stack.postgres.url(&stack.postgres.database().await.unwrap());
    let extra = format!("{}{extra}", fakes.receiver_config());
    Bench::of(fakes, &url, extra).await
}

fn body(delivered: &Delivered) -> Value {
    serde_json::from_str(&delivered.body).unwrap()
}

fn events(bench: &Bench) -> Vec<(String, u64)> {
    let told = bench.fakes.delivered();
    let told = told.iter().map(body);
    told.map(|told| (told["event"].as_str().unwrap().to_owned(), told["skipped"].as_u64().unwrap()))
        .collect()
}

fn event(name: &str, skipped: u64) -> (String, u64) {
    (name.to_owned(), skipped)
}

/// The examples of docs/operating.md, run on a delivery. `harness` says what is printed.
fn python(delivered: &Delivered, harness: &str) -> Vec<Value> {
    let docs = include_str!("../../docs/operating.md");
    let section = docs.split("## Told elsewhere").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let code: Vec<&str> = blocks.collect();
    assert_eq!(code.len(), 5, "the section has lost an example");
    let mut python = Command::new("python3")
        .arg("-c")
        .arg(format!("{}\n{PRELUDE}\n{harness}", code.join("\n")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({
        "headers": delivered.headers, "body": delivered.body, "secret": RECEIVER_SECRET,
    });
    python.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "the example failed");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const PRELUDE: &str = "import json, sys\ngiven = json.load(sys.stdin)\nheaders, body = \
                       given['headers'], given['body'].encode()\nsay = lambda value: \
                       print(json.dumps(value))\n";

#[tokio::test]
async fn every_transition_is_one_signed_delivery_and_what_was_missed_is_the_state_now() {
    let mut bench = bench("alert.repeat_interval = \"1m\"\n").await;
    bench.turns(1, 3, lost).await;
    assert_eq!(events(&bench), [event("opened", 0)]);
    bench.turns(61, 1, lost).await;
    bench.fakes.receiver(Behaviour::Overrun(30));
    bench.turns(61, 2, lost).await;
    bench.fakes.receiver(Behaviour::Status(503));
    bench.turns(61, 2, lost).await;
    let before = bench.fakes.delivered().len();
    assert_eq!(events(&bench), [event("opened", 0), event("reminder", 0)]);
    bench.fakes.receiver(Behaviour::Normal);
    bench.turns(61, 1, lost).await;
    let told = events(&bench);
    assert_eq!(told.len(), before + 1, "what could not be delivered is one: {told:?}");
    assert!(told[before].0 == "reminder" && told[before].1 >= 3, "{told:?}");
    bench.turns(31, 3, well).await;
    assert_eq!(events(&bench).last(), Some(&event("resolved", 0)));

    let told: Vec<Value> = bench.fakes.delivered().iter().map(body).collect();
    let tag: String = bench.world.scalar("select tag::text from tidemark.incident").await;
    for one in &told {
        assert_eq!(
            (&one["version"], &one["type"], &one["test"]),
            (&json!(1), &json!("incident"), &json!(false))
        );
        assert_eq!(one["incident"]["key"], tag.as_str());
        assert_eq!(one["incident"]["code"], "history_lost");
    }
    let ids = bench.fakes.delivered();
    let ids: std::collections::BTreeSet<_> =
        ids.iter().map(|one| one.headers["x-tidemark-delivery"].clone()).collect();
    assert_eq!(ids.len(), told.len(), "each delivery is one of its own");
}

#[tokio::test]
async fn an_answer_that_never_came_is_the_same_delivery_again() {
    let mut bench = bench("").await;
    bench.fakes.receiver(Behaviour::TakesAndHangs);
    bench.turns(1, 1, lost).await;
    bench.fakes.receiver(Behaviour::Normal);
    bench.turns(2, 3, lost).await;
    let ids = bench.fakes.delivered();
    let ids: Vec<_> = ids.iter().map(|one| &one.headers["x-tidemark-delivery"]).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn a_receiver_that_refuses_is_told_elsewhere_and_mended() {
    let fakes = Fakes::start().unwrap();
    let extra = fakes.receiver_config();
    let stack = Stack::shared();
    let url = stack.postgres.url(&stack.postgres.database().await.unwrap());
    let extra = format!("{}{extra}", fakes.config());
    let mut bench = Bench::of(fakes, &url, extra).await;
    bench.fakes.receiver(Behaviour::Status(401));
    let seen = |bench: &Bench| tidemark::alert::Observed {
        channels: bench.outbox.troubles(),
        ..lost(bench)
    };
    bench.turns(10, 3, seen).await;
    let roots: Vec<String> = bench.fakes.roots().iter().map(header).collect();
    assert_eq!(roots.len(), 2, "slack is told of the incident, and of the receiver: {roots:?}");
    assert!(bench.fakes.delivered().is_empty());
    bench.fakes.receiver(Behaviour::Normal);
    bench.turns(61, 3, seen).await;
    assert!(bench.outbox.troubles().is_empty());
    assert!(events(&bench).contains(&event("opened", 0)), "{:?}", events(&bench));
}

#[tokio::test]
async fn the_examples_verify_and_translate_what_is_delivered() {
    let mut bench = bench("").await;
    bench.turns(1, 2, lost).await;
    bench.turns(31, 3, well).await;
    let told = bench.fakes.delivered();
    let (opened, resolved) = (&told[0], told.last().unwrap());
    let verify = "say(verify(given['secret'], headers, body))\n\
                  say(verify('another secret, not this', headers, body))\n\
                  say(verify(given['secret'], headers, body + b' '))\n\
                  at = int(headers['x-tidemark-timestamp'])\n\
                  headers['x-tidemark-timestamp'] = str(at + 1)\n\
                  say(verify(given['secret'], headers, body))\n\
                  time.time = lambda: at + 301\n\
                  headers['x-tidemark-timestamp'] = str(at)\n\
                  say(verify(given['secret'], headers, body))";
    for delivered in [opened, resolved] {
        let verified = python(delivered, verify);
        assert_eq!(verified, [true, false, false, false, false].map(Value::from));
    }
    let translate = "told = json.loads(body)\nsay(pagerduty('key', told))\nsay(teams(told))\n\
                     mailed = mail('a@b.test', 'c@d.test', told)\n\
                     say({**dict(mailed.items()), 'body': mailed.get_content()})";
    let first = python(opened, translate);
    let key = &body(opened)["incident"]["key"];
    assert_eq!((&first[0]["event_action"], &first[0]["dedup_key"]), (&json!("trigger"), key));
    assert_eq!(first[0]["payload"]["severity"], "critical");
    let card = &first[1]["attachments"][0]["content"];
    assert_eq!(card["body"][0]["text"], "recommendation: history lost");
    assert_eq!(card["body"][0]["color"], "attention");
    assert_eq!(first[2]["Message-ID"], format!("<{}@tidemark>", key.as_str().unwrap()));
    assert!(first[2]["body"].as_str().unwrap().starts_with("opened: "), "{:#}", first[2]);
    let last = python(resolved, translate);
    assert_eq!((&last[0]["event_action"], &last[0]["dedup_key"]), (&json!("resolve"), key));
    assert!(last[0].get("payload").is_none());
    assert_eq!(last[1]["attachments"][0]["content"]["body"][0]["color"], "good");
    assert_eq!(last[2]["In-Reply-To"], first[2]["Message-ID"], "one thread");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_of_the_docs_passes_on_what_is_tidemarks_and_nothing_else() {
    let fakes = Fakes::start().unwrap();
    let port = devstack::free_port().unwrap();
    // What it passes on goes to the fake, which keeps it.
    let harness = format!(
        "os.environ.update(WEBHOOK_SECRET=given['secret'], ROUTING_KEY='r1', \
         EVENTS_URL='{}/receiver')\nimport threading\nserver = HTTPServer(('127.0.0.1', {port}), \
         Relay)\nthreading.Thread(target=server.serve_forever, daemon=True).start()\n\
         from urllib.request import Request, urlopen\n\
         def post(headers):\n    try:\n        \
         return urlopen(Request('http://127.0.0.1:{port}/', body, headers)).status\n    \
         except urllib.error.HTTPError as error:\n        return error.code\n\
         kept = {{k: v for k, v in headers.items() if k.startswith('x-tidemark')}}\n\
         say(post(kept))\nsay(post({{**kept, 'x-tidemark-signature': 'sha256=00'}}))",
        fakes.base()
    );
    let mut bench = bench("").await;
    bench.turns(1, 2, lost).await;
    let opened = bench.fakes.delivered().remove(0);
    let answers = tokio::task::spawn_blocking(move || python(&opened, &harness)).await.unwrap();
    assert_eq!(answers, [204, 401].map(Value::from));
    let passed = fakes.delivered();
    assert_eq!(passed.len(), 1);
    assert_eq!(body(&passed[0])["routing_key"], "r1");
}

#[tokio::test]
async fn alert_test_delivers_an_opening_and_an_end_marked_as_a_test() {
    let fakes = Fakes::start().unwrap();
    let world = World::with(Config { extra: fakes.receiver_config(), ..Config::default() }).await;
    let (code, said) = run(&world, &["alert", "test"]);
    assert!(code == Some(0) && said.contains("webhook"), "{said}");
    let told: Vec<Value> = fakes.delivered().iter().map(body).collect();
    let told: Vec<_> = told.iter().map(|one| (&one["event"], &one["test"])).collect();
    assert_eq!(told, [(&json!("opened"), &json!(true)), (&json!("resolved"), &json!(true))]);
    fakes.receiver(Behaviour::Status(404));
    let (code, said) = run(&world, &["alert", "test"]);
    assert!(code == Some(1) && said.contains("answered HTTP 404"), "{said}");
}

#[tokio::test]
async fn an_address_anybody_could_read_or_no_secret_is_refused() {
    for (extra, what) in [
        ("alert.webhook.url = \"http://example.org/x\"\n", "alert.webhook.url"),
        ("alert.webhook.url = \"http://127.0.0.1:1/x\"\n", "must be 16 bytes or more"),
        ("alert.webhook.url = \"https://example.org/x\"\nalert.webhook.secret = \"short\"\n", "16"),
    ] {
        let world = World::with(Config { extra: extra.to_owned(), ..Config::default() }).await;
        let (code, told) = run(&world, &["check", "--offline"]);
        assert!(code == Some(78) && told.contains(what), "{told}");
        assert!(!told.contains("short") && !told.contains("example.org"), "{told}");
    }
}
