//! Guarantee 9, on a clock of the test's own: the outbox, the senders, real Postgres, and Slack and
//! Sentry at their worst.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use devstack::{Behaviour, Fakes, Message, Stack};
use tidemark::alert::{
    Ack, Facts, Limits, Observed, Outbox, Seen, Sender, Sentry, Store, outbox, senders,
};
use tidemark::model::phase::Phase;
use tidemark::model::step::Step;
use tidemark::postgres::Target;
use tidemark::settings::{Origin, Settings};
use tidemark::state::StateTables;
use tidemark::status::{Board, FailingReport, StreamReport};

use crate::support::{Config, World, run};

/// The alert side of a daemon, turned by hand.
pub struct Bench {
    pub world: World,
    pub fakes: Fakes,
    pub outbox: Arc<Outbox>,
    pub store: Store,
    state: StateTables,
    senders: Vec<Sender>,
    pub now: DateTime<Utc>,
}

impl Bench {
    pub async fn new(extra: &str) -> Self {
        Self::over(Fakes::start().unwrap(), extra).await
    }

    async fn over(fakes: Fakes, extra: &str) -> Self {
        let stack = Stack::shared();
        let url = stack.postgres.url(&stack.postgres.database().await.unwrap());
        Self::through(fakes, &url, extra).await
    }

    /// Over a way to Postgres of the test's own.
    pub async fn through(fakes: Fakes, target_url: &str, extra: &str) -> Self {
        let extra = format!("{}{extra}", fakes.config());
        Self::of(fakes, target_url, extra).await
    }

    /// With no channel but those configured here.
    pub async fn of(fakes: Fakes, target_url: &str, extra: String) -> Self {
        let config = Config { extra, ..Config::default() };
        let world = World::of(&Stack::shared().mongo.uri(), target_url, config).await;
        assert_eq!(run(&world, &["migrate"]).0, Some(0));
        let origin = Origin { file: Some(world.config.clone()), ..Origin::default() };
        let settings = Settings::load(&origin).unwrap();
        let target = Target::new(&settings).unwrap();
        let store = Store::new(&settings, &target);
        let state = StateTables::new(target.clone(), target.pool(1), "tidemark");
        let sentry = Sentry::new(&settings, "test").map(Arc::new);
        let senders = senders(&settings, sentry.as_ref());
        let board = Board::new("tidemark", "development", &[], Vec::new());
        let outbox = outbox(&settings, &senders, &board);
        outbox.speak(true);
        outbox.record(true);
        assert!(store.hold("test", Duration::from_secs(3600), &[]).await.unwrap());
        Self {
            world,
            fakes,
            outbox,
            store,
            state,
            senders,
            now: "2026-11-20T18:07:00Z".parse().unwrap(),
        }
    }

    /// Another process, with nothing in memory but what Postgres holds.
    async fn restarted(&mut self) {
        let loaded = self.store.load(self.now, &self.outbox.channels).await.unwrap();
        self.outbox.book().incidents = loaded;
    }

    /// One turn of the watch and of each sender, `seconds` later.
    pub async fn turn(&mut self, seconds: i64, seen: &Observed) {
        self.turn_and_save(seconds, seen, true).await;
    }

    /// The same, with Postgres or while it is away.
    async fn turn_and_save(&mut self, seconds: i64, seen: &Observed, postgres: bool) {
        self.outbox.record(postgres);
        self.now += TimeDelta::seconds(seconds);
        let causes = seen.causes(self.now);
        self.outbox.book().step(self.now, &causes, |key| seen.is_blind_to(key));
        if postgres {
            self.outbox.hear(&self.state.mutes_said().await.unwrap());
        }
        self.outbox.address();
        self.outbox.pass_over_muted(self.now);
        if postgres {
            assert!(self.outbox.save(&self.store, self.now).await);
        }
        for sender in &self.senders {
            while sender.turn(&self.outbox, &self.store, self.now).await {}
        }
    }

    pub async fn turns(&mut self, seconds: i64, times: usize, seen: impl Fn(&Self) -> Observed) {
        for _ in 0..times {
            let seen = seen(self);
            self.turn(seconds, &seen).await;
        }
    }

    pub fn only_root(&self) -> Message {
        let roots = self.fakes.roots();
        assert_eq!(roots.len(), 1, "{roots:#?}");
        roots.into_iter().next().unwrap()
    }
}

pub fn observed(streams: Vec<StreamReport>) -> Observed {
    let streams = streams.into_iter().map(|report| Seen { report, fresh: true, unled_since: None });
    let limits = Limits { escalate_after: TimeDelta::minutes(2), ..Limits::default() };
    Observed {
        streams: streams.collect(),
        facts: Some(Facts::default()),
        channels: Vec::new(),
        limits,
    }
}

pub fn well(_: &Bench) -> Observed {
    observed(Vec::new())
}

pub fn halted(stream: &str, code: &str, bench: &Bench) -> StreamReport {
    let begun: DateTime<Utc> = "2026-11-20T18:00:00Z".parse().unwrap();
    StreamReport {
        phase: Phase::Halted,
        phase_since: begun,
        halt_code: Some(code.into()),
        reason: Some("the resume token was not found".into()),
        leader: true,
        // Once a minute, a probe fails.
        failures: u64::try_from((bench.now - begun).num_minutes()).unwrap() + 1,
        ..StreamReport::new(stream, "revalidation.c", "public.t")
    }
}

pub fn lost(bench: &Bench) -> Observed {
    observed(vec![halted("recommendation", "history_lost", bench)])
}

pub fn header(message: &Message) -> String {
    message.body["blocks"][0]["text"]["text"].as_str().unwrap_or_default().to_owned()
}

fn said(message: &Message) -> String {
    message.body["blocks"][0]["text"]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_weekend_of_sixty_hours_with_the_token_lost_is_one_thread_with_reminders_on_schedule() {
    let mut bench = Bench::new("").await;
    for _ in 0..60 * 60 * 2 {
        let seen = lost(&bench);
        bench.turn(30, &seen).await;
    }
    let root = bench.only_root();
    let replies = bench.fakes.replies(&root.ts);
    assert_eq!(replies.len(), 14, "every four hours, within sixty");
    assert!(
        replies.iter().all(
            |reply| reply.body["reply_broadcast"] == true && said(reply).contains("Still open")
        )
    );
    assert!((3_000..3_601).contains(&root.edits), "edited once a minute: {}", root.edits);
    assert!(root.body.to_string().contains("met 3,6"), "{:#}", root.body);
    assert_eq!(bench.fakes.events().len(), 1);
    let row: (i64, i64) =
        bench.world.row("select count(*), max(count) from tidemark.incident").await;
    assert_eq!(row.0, 1);
    assert!(row.1 > 3_590, "{row:?}");
    bench.turns(31, 4, well).await;
    assert!(header(&bench.only_root()).starts_with('🟢'));
    assert_eq!(bench.fakes.replies(&root.ts).len(), 15);
}

#[tokio::test]
async fn five_minutes_without_postgres_are_one_thread_before_during_and_after() {
    let mut bench = Bench::new("").await;
    bench.turns(1, 5, lost).await;
    let away = |bench: &Bench| {
        let since = "2026-11-20T18:07:00Z".parse().unwrap();
        let mut report = halted("recommendation", "history_lost", bench);
        let (step, code) = (Step::Lease, "target_unreachable".to_owned());
        report.failing =
            vec![FailingReport { step, code, since, attempts: 9, reason: "no answer".to_owned() }];
        Observed { facts: None, ..observed(vec![report]) }
    };
    for _ in 0..60 {
        let seen = away(&bench);
        bench.turn_and_save(5, &seen, false).await;
    }
    let said: Vec<String> = bench.fakes.roots().iter().map(header).collect();
    assert_eq!(said, ["🔴 recommendation: history lost", "🔴 Postgres cannot be reached"]);
    bench.turns(5, 12, lost).await;
    bench.turns(61, 3, well).await;
    let said: Vec<String> = bench.fakes.roots().iter().map(header).collect();
    assert_eq!(
        said,
        ["🟢 recommendation: history lost – resolved", "🟢 Postgres cannot be reached – resolved"]
    );
    let kept =
        bench.world.column("select code || ' ' || state from tidemark.incident order by id").await;
    assert_eq!(kept, ["history_lost resolved", "target_unreachable resolved"]);
    assert_eq!(bench.fakes.events().len(), 2);
}

#[tokio::test]
async fn slack_overrun_is_left_alone_for_as_long_as_it_asks() {
    let mut bench = Bench::new("").await;
    bench.fakes.slack(Behaviour::Overrun(30));
    bench.turns(1, 30, lost).await;
    assert_eq!(bench.fakes.calls().len(), 1, "one call, then thirty seconds of silence");
    bench.fakes.slack(Behaviour::Normal);
    bench.turns(1, 2, lost).await;
    bench.only_root();
    assert_eq!(
        bench.world.scalar::<i64>("select count(*) from tidemark.outbox where pending").await,
        0
    );
}

#[tokio::test]
async fn slack_away_for_ten_minutes_gets_the_current_state_and_not_the_queue_in_order() {
    let mut bench = Bench::new("alert.repeat_interval = \"1m\"\n").await;
    bench.turns(1, 3, lost).await;
    let first = bench.only_root();
    bench.fakes.slack(Behaviour::Status(500));
    let both = |bench: &Bench| {
        observed(vec![
            halted("recommendation", "history_lost", bench),
            halted("doctor", "dead_letter_rate", bench),
        ])
    };
    bench.turns(5, 120, both).await;
    let calls = bench.fakes.calls().len();
    assert!(calls < 30, "{calls} calls in ten minutes");
    // Another process goes on: what has still to be told is in Postgres.
    bench.restarted().await;
    bench.fakes.slack(Behaviour::Normal);
    bench.turns(5, 14, both).await;
    let roots = bench.fakes.roots();
    assert_eq!(
        roots.iter().map(header).collect::<Vec<_>>(),
        ["🔴 recommendation: history lost", "🔴 doctor: too many events cannot be stored"]
    );
    let replies = bench.fakes.replies(&first.ts);
    assert!(replies.len() <= 2, "{replies:#?}");
    assert!(
        replies[0].body.to_string().contains("could not be delivered; this is the state now"),
        "{:#}",
        replies[0].body
    );
    // It ends while Slack is away again, and is green when Slack is back.
    bench.fakes.slack(Behaviour::Status(503));
    bench.turns(20, 10, well).await;
    bench.fakes.slack(Behaviour::Normal);
    bench.turns(61, 3, well).await;
    assert!(bench.fakes.roots().iter().all(|root| header(root).starts_with('🟢')));
    assert_eq!(bench.fakes.roots().len(), 2);
}

#[tokio::test]
async fn an_incident_that_came_and_went_while_slack_was_away_is_one_green_message() {
    let mut bench = Bench::new("").await;
    bench.fakes.slack(Behaviour::Status(503));
    bench.fakes.sentry(Behaviour::Status(503));
    bench.turns(10, 3, lost).await;
    bench.turns(31, 60, well).await;
    bench.fakes.slack(Behaviour::Normal);
    bench.fakes.sentry(Behaviour::Normal);
    bench.turns(61, 2, well).await;
    assert_eq!(header(&bench.only_root()), "🟢 recommendation: history lost – resolved");
    assert_eq!((bench.fakes.messages().len(), bench.fakes.events().len()), (1, 1));
}

#[tokio::test]
async fn an_answer_that_never_came_doubles_a_message_once_at_most_and_names_the_incident() {
    let mut bench = Bench::new("").await;
    bench.fakes.slack(Behaviour::TakesAndHangs);
    bench.turns(1, 1, lost).await;
    bench.fakes.slack(Behaviour::Normal);
    bench.turns(2, 5, lost).await;
    let roots = bench.fakes.roots();
    assert!(roots.len() <= 2);
    let ids: Vec<_> = roots.iter().map(|root| root.body["client_msg_id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "Slack may tell them apart as one: {ids:?}");
    let tag: String = bench.world.scalar("select tag::text from tidemark.incident").await;
    assert!(
        roots.iter().all(|root| root.body["metadata"]["event_payload"]["incident"] == tag.as_str())
    );
}

#[tokio::test]
async fn an_acknowledgement_that_a_killed_process_never_saw_is_told_by_the_next() {
    let mut bench = Bench::new("").await;
    bench.now = Utc::now();
    bench.turns(1, 2, lost).await;
    let root = bench.only_root();
    let id = bench.world.scalar::<i64>("select id from tidemark.incident").await;
    let ack = Ack { by: "Mary".into(), until: Utc::now() + TimeDelta::hours(6) };
    assert!(bench.store.acknowledge(id, &ack, "mary@ward").await.unwrap());
    for _ in 0..2 {
        bench.restarted().await;
        for (id, ack) in bench.store.acks().await.unwrap() {
            bench.outbox.book().acknowledge(bench.now, id, &ack);
        }
        bench.turns(1, 2, lost).await;
    }
    let replies = bench.fakes.replies(&root.ts);
    assert!(replies.len() == 1 && said(&replies[0]).contains("Mary is on it"), "{replies:#?}");
    bench.turns(600, 30, lost).await;
    assert_eq!(bench.fakes.replies(&root.ts).len(), 1, "no reminder in five hours");
}

#[tokio::test]
async fn a_message_that_was_deleted_is_posted_anew_once() {
    let mut bench = Bench::new("").await;
    bench.turns(1, 3, lost).await;
    bench.fakes.delete_messages();
    bench.turns(61, 5, lost).await;
    bench.only_root();
    bench.turns(61, 3, well).await;
    assert!(header(&bench.only_root()).starts_with('🟢'));
}

fn with_channels(bench: &Bench, seen: Observed) -> Observed {
    Observed { channels: bench.outbox.troubles(), ..seen }
}

#[tokio::test]
async fn a_refusal_is_shown_and_told_elsewhere_and_mended() {
    for error in ["channel_not_found", "not_in_channel", "invalid_auth", "missing_scope"] {
        let mut bench = Bench::new("").await;
        bench.fakes.slack(Behaviour::Error(error));
        bench.turns(10, 3, |bench| with_channels(bench, lost(bench))).await;
        assert!(bench.fakes.roots().is_empty());
        let codes: Vec<_> =
            bench.fakes.events().iter().map(|event| event["tags"]["code"].clone()).collect();
        assert!(codes.contains(&"channel_failing".into()), "{error}: {codes:?}");
        bench.fakes.slack(Behaviour::Normal);
        bench.turns(61, 3, |bench| with_channels(bench, lost(bench))).await;
        assert!(bench.outbox.troubles().is_empty(), "{error}");
        assert_eq!(header(&bench.fakes.roots()[0]), "🔴 recommendation: history lost");
    }
}

#[tokio::test]
async fn the_webhook_takes_over_from_a_bot_that_is_refused_and_tells_the_opening_and_the_end() {
    let fakes = Fakes::start().unwrap();
    let mut bench = Bench::over(
        fakes.clone(),
        &format!("alert.slack.webhook_url = {:?}\n", fakes.webhook_url()),
    )
    .await;
    fakes.slack(Behaviour::Error("token_revoked"));
    bench.turns(10, 200, lost).await;
    let told = fakes.webhooked();
    assert_eq!(told.len(), 1, "{told:#?}");
    bench.turns(31, 3, well).await;
    let told = fakes.webhooked();
    assert!(told.len() == 2 && told[1]["text"].as_str().unwrap().contains("resolved"), "{told:#?}");
}
