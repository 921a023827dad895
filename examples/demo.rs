//! The main job, shown: throwaway real servers, some thousand doctors and recommendations, a
//! working day at speed.
//!
//! `cargo run --example demo` runs until Ctrl-C; `cargo run --example demo -- --once` ends by
//! itself and exits 0 only if source and tables are equal. `--seed N` repeats a run.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use devstack::{Comparison, Stack, compare};
use tidemark::model::phase::Phase;
use tidemark::settings::{Origin, Settings};
use tidemark::status::{Board, Report};
use tidemark::supervisor::Daemon;
use tokio_util::sync::CancellationToken;

const USAGE: &str = "usage: cargo run --example demo -- [--once] [--seed N]\n\nFollows a working \
                     day on throwaway servers until Ctrl-C; --once ends by itself, and exits 0 \
                     only if source and tables are equal.";

const DATABASE: &str = "revalidation";
const MASTER_DOCTOR: &str = include_str!("../migrations/examples/master_doctor.sql");

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(Arguments { once, seed }) = Arguments::of(std::env::args().skip(1)) else {
        println!("{USAGE}");
        let asks = |argument: String| matches!(&*argument, "--help" | "-h");
        return if std::env::args().skip(1).any(asks) { ExitCode::SUCCESS } else { 2.into() };
    };
    match demo(once, seed).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the demo is asked.
struct Arguments {
    once: bool,
    seed: u64,
}

impl Arguments {
    /// `None` for what it does not know, and for `--help`.
    fn of(mut given: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments = Self { once: false, seed: 2026 };
        while let Some(argument) = given.next() {
            match &*argument {
                "--once" => arguments.once = true,
                "--seed" => arguments.seed = given.next()?.parse().ok()?,
                _ => return None,
            }
        }
        Some(arguments)
    }
}

async fn demo(once: bool, seed: u64) -> Outcome<bool> {
    println!("starting a throwaway MongoDB replica set and Postgres …");
    let stack = tokio::task::spawn_blocking(Stack::start).await??;
    let source = stack.mongo.client().await?.database(DATABASE);
    let mut data = Revalidation::new(source, seed);
    data.load(4_000, 3_000).await?;
    println!(
        "loaded {} doctors and {} recommendations (seed {seed})",
        data.doctors,
        data.recommendations.len()
    );

    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let daemon = Daemon::new(settings(&stack)?, listener).await?;
    let board = daemon.board();
    let stop = CancellationToken::new();
    let told = stop.clone();
    let running = tokio::spawn(async move { daemon.run(&told, None).await });
    println!("following; status at http://{address}/");

    let deadline = once.then(|| Instant::now() + Duration::from_secs(20));
    let worked = work(&mut data, &board, address, deadline, once).await;
    settle(&board).await;
    let equal = report(&data, &stack).await;
    stop.cancel();
    running.await??;
    worked?;
    equal
}

fn settings(stack: &Stack) -> Outcome<Settings> {
    let variables = [
        ("TIDEMARK__ENVIRONMENT", "demo".to_owned()),
        ("TIDEMARK__SOURCE__URI", stack.mongo.uri()),
        ("TIDEMARK__SOURCE__DATABASE", DATABASE.to_owned()),
        ("TIDEMARK__TARGET__URL", stack.postgres.url("postgres")),
        ("TIDEMARK__CHECKPOINT__IDLE_INTERVAL", "2s".to_owned()),
    ];
    let variables = variables.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(Settings::load(&Origin { variables, ..Origin::default() })?)
}

/// Changes things until Ctrl-C, or for as long as it was given; shows what the daemon makes of it.
async fn work(
    data: &mut Revalidation,
    board: &Arc<Board>,
    address: std::net::SocketAddr,
    deadline: Option<Instant>,
    once: bool,
) -> Outcome<()> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let mut screen = Screen::new(once);
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        tokio::select! {
            _ = &mut interrupted => break,
            _ = tick.tick() => {}
        }
        let changes = 50 + data.rng.usize(..400);
        data.work(changes).await?;
        screen.draw(&board.report(), data.changes, address);
    }
    Ok(())
}

/// Waits until every change made so far has been followed.
async fn settle(board: &Arc<Board>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut calm = 0;
    while calm < 8 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let report = board.report();
        let caught_up =
            report.streams.iter().all(|s| s.phase == Phase::Streaming && s.lag_seconds == 0.0);
        calm = if caught_up { calm + 1 } else { 0 };
    }
}

/// Compares every document with every row, and shows the view readers use.
async fn report(data: &Revalidation, stack: &Stack) -> Outcome<bool> {
    let mut target = stack.postgres.connect("postgres").await?;
    let doctors = compare(&data.database, DOCTORS, &mut target, "public.doctor").await?;
    let recommendations =
        compare(&data.database, RECOMMENDATIONS, &mut target, "public.recommendation").await?;
    sqlx::raw_sql(MASTER_DOCTOR).execute(&mut target).await?;
    let masters: i64 = sqlx::query_scalar("select count(*) from public.master_doctor")
        .fetch_one(&mut target)
        .await?;
    println!(
        "\ncompared {} documents after {} changes",
        doctors.documents + recommendations.documents,
        data.changes
    );
    for (name, found) in [("doctor", &doctors), ("recommendation", &recommendations)] {
        let Comparison { missing, extra, different, .. } = found;
        let (missing, extra, different) = (missing.len(), extra.len(), different.len());
        println!(
            "  {name:<15} {:>6} documents, {missing} missing, {extra} extra, {different} different",
            found.documents
        );
    }
    println!("  master_doctor   {masters:>6} rows in the example view");
    let equal = doctors.is_equal() && recommendations.is_equal();
    println!("{}", if equal { "source and tables are equal" } else { "SOURCE AND TABLES DIFFER" });
    Ok(equal)
}

/// A few lines drawn over themselves on a terminal; elsewhere, one line now and then.
struct Screen {
    live: bool,
    lines: usize,
    drawn: Option<Instant>,
}

impl Screen {
    fn new(once: bool) -> Self {
        Self { live: !once && std::io::stdout().is_terminal(), lines: 0, drawn: None }
    }

    fn draw(&mut self, report: &Report, changes: usize, address: std::net::SocketAddr) {
        let interval = if self.live { Duration::from_millis(200) } else { Duration::from_secs(5) };
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < interval) {
            return;
        }
        self.drawn = Some(Instant::now());
        let text = if self.live { frame(report, changes, address) } else { line(report, changes) };
        if self.live && self.lines > 0 {
            print!("\x1b[{}A\x1b[J", self.lines);
        }
        self.lines = text.lines().count();
        print!("{text}");
        let _ = std::io::stdout().flush();
    }
}

fn frame(report: &Report, changes: usize, address: std::net::SocketAddr) -> String {
    let mut text = format!(
        "\n{} · {changes} changes made · http://{address}/ · Ctrl-C to stop and compare\n\n",
        report.verdict.name()
    );
    let _ = writeln!(
        text,
        "{:<16} {:<13} {:>6} {:>10} {:>10} {:>12}",
        "STREAM", "PHASE", "LAG", "HEADROOM", "EVENTS", "ROWS CHANGED"
    );
    for stream in &report.streams {
        let headroom =
            stream.headroom_seconds.map_or_else(|| "unknown".to_owned(), |s| format!("{s:.0} s"));
        let _ = writeln!(
            text,
            "{:<16} {:<13} {:>4.0} s {headroom:>10} {:>10} {:>12}",
            stream.name,
            stream.phase,
            stream.lag_seconds,
            stream.events_applied,
            stream.rows_changed
        );
    }
    text
}

fn line(report: &Report, changes: usize) -> String {
    let mut text = format!("{changes} changes made");
    for stream in &report.streams {
        let _ =
            write!(text, " · {} {}, {} events", stream.name, stream.phase, stream.events_applied);
    }
    text + "\n"
}
