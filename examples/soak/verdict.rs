//! What must be true once nothing happens any more, and how that is waited for.

use std::cell::Cell;
use std::time::{Duration, Instant};

use devstack::{Comparison, Fakes, Result, compare};
use mongodb::Database;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::runtime::Handle;

use crate::daemons::{Daemons, Program};
use crate::load::CANARY;
use crate::people::People;
use crate::story::Story;
use crate::target::{TABLES, Target};

/// The streams, in the order of `TABLES`.
const COLLECTIONS: [&str; 2] =
    [devstack::revalidation::DOCTORS, devstack::revalidation::RECOMMENDATIONS];
/// Documents that are set aside, or that a person has given up.
const LETTERS: &str = "select document_id from tidemark.dead_letter
    where stream = $1 and document_id is not null and (resolved_at is null or resolution = \
    'discarded')";

/// Streams whose repair somebody cancelled: what was missed stays so until another completes.
const GIVEN_UP: &str = "select distinct stream from tidemark.resync as r where state = 'cancelled'
    and not exists (select from tidemark.resync as later
        where later.stream = r.stream and later.id > r.id and later.state = 'completed')";

/// What there must be none of, and a query for what there is.
const NEVER: [(&str, &str); 4] = [
    (
        "open walks though every stream streams",
        "select concat_ws(' ', stream, id, state, note) from tidemark.resync
         where state in ('running', 'sweeping', 'held')",
    ),
    (
        "retired positions that do not say why",
        "select concat_ws(' ', \"group\", id) from tidemark.checkpoint_history
         where coalesce(why, '') = ''",
    ),
    (
        "commands never answered",
        "select concat_ws(' ', verb, stream, id) from tidemark.command where done_at is null",
    ),
    (
        "open incidents",
        // Documents of names without end are part of the load, so drift is there to stay.
        "select concat_ws(' ', code, stream, state, summary) from tidemark.incident
         where resolved_at is null and code not in ('field_drift', 'crash_loop')",
    ),
];
/// Whoever was killed often is said to have been for ten minutes.
const AT_LAST: (&str, &str) = (
    "a crash loop ten minutes after the last kill",
    "select summary from tidemark.incident where resolved_at is null and code = 'crash_loop'",
);

/// Between two commands about the same trouble.
const A_PERSON_WAITS: Duration = Duration::from_secs(15);

pub struct Judge<'a> {
    pub program: &'a Program,
    pub daemons: &'a Daemons,
    pub people: &'a People,
    pub fakes: &'a Fakes,
    pub story: &'a Story,
    pub handle: &'a Handle,
    pub source: Database,
    /// How long anything may take to mend itself.
    pub patience: Duration,
    /// When a person last did something about what stood still.
    pub acted: Cell<Option<Instant>>,
}

impl Judge<'_> {
    /// Waits until tables and collections are equal and nothing is left over; says what is not.
    pub fn judge(&self, target: &mut Target) -> Result<()> {
        self.until(|| self.streaming(), "the streams do not stream")?;
        let given_up = self.handle.block_on(async {
            let mut connection = target.connect().await?;
            texts(&mut connection, GIVEN_UP).await
        })?;
        for stream in given_up {
            let answer = self.people.resync(&stream, self.story)?;
            self.story.say(&format!("a resync of {stream} was cancelled before: {answer}"));
        }
        let mut unlike = String::new();
        let mut equal = self.until_quietly(self.patience, &mut || {
            unlike = self.unlike(target).unwrap_or_else(|error| error.to_string());
            self.approve_what_waits(&unlike)?;
            Ok(unlike.is_empty())
        })?;
        if !equal {
            self.story.found(format!("tables and collections differ: {unlike}"));
            for stream in TABLES {
                self.story.say(&self.people.resync(stream, self.story)?);
            }
            equal = self.until_quietly(self.patience, &mut || {
                unlike = self.unlike(target).unwrap_or_else(|error| error.to_string());
                self.approve_what_waits(&unlike)?;
                Ok(unlike.is_empty() && self.streaming()?)
            })?;
            if !equal {
                self.story.found(format!("a resync does not repair it: {unlike}"));
            }
        }
        for stream in TABLES {
            self.people.letters("retry", stream, self.story)?;
            self.people.letters("discard", stream, self.story)?;
        }
        for never in NEVER {
            self.never(never, self.patience, target)?;
        }
        self.told_nothing(target)
    }

    /// What takes longer to be over than one would wait for after each round.
    pub fn at_last(&self, target: &mut Target) -> Result<()> {
        self.never(AT_LAST, Duration::from_secs(660), target)
    }

    fn never(
        &self,
        never: (&str, &'static str),
        patience: Duration,
        target: &mut Target,
    ) -> Result<()> {
        let (what, sql) = never;
        let mut found = Vec::new();
        let none = self.until_quietly(patience, &mut || {
            found = self.handle.block_on(async {
                let mut connection = target.connect().await?;
                texts(&mut connection, sql).await
            })?;
            Ok(found.is_empty())
        })?;
        if !none {
            self.story.found(format!("{what}: {}", found.join("; ")));
        }
        Ok(())
    }

    /// Every stream streams without lag.
    fn streaming(&self) -> Result<bool> {
        let (_, text) = self.program.run(&["status", "--json"])?;
        let Ok(status) = serde_json::from_str::<Value>(&text) else { return Ok(false) };
        let none = Vec::new();
        let streams = status["streams"].as_array().unwrap_or(&none);
        let well = |stream: &Value| {
            stream["phase"] == "streaming" && stream["lag_seconds"].as_f64() == Some(0.0)
        };
        if streams.len() == TABLES.len() && streams.iter().all(well) {
            return Ok(true);
        }
        self.act(streams)?;
        Ok(false)
    }

    /// A person does now and then what an incident asks for.
    fn act(&self, streams: &[Value]) -> Result<()> {
        if self.acted.get().is_some_and(|at| at.elapsed() < A_PERSON_WAITS) {
            return Ok(());
        }
        self.acted.set(Some(Instant::now()));
        // What a full disk stops goes on by itself.
        let asks =
            |stream: &&Value| stream["phase"] == "halted" && stream["halt_code"] != "target_full";
        for stream in streams.iter().filter(asks) {
            let name = stream["name"].as_str().unwrap_or_default();
            let answer = self.people.resync(name, self.story)?;
            self.story.say(&format!("{name} is halted ({}): {answer}", stream["halt_code"]));
        }
        if let Ok(answer) = self.people.approve(self.story) {
            self.story.say(&answer);
        }
        Ok(())
    }

    /// As long as something differs, a sweep may be waiting for a person.
    fn approve_what_waits(&self, unlike: &str) -> Result<()> {
        if unlike.is_empty() { Ok(()) } else { self.act(&[]) }
    }

    /// What differs, without what is set aside; empty if nothing does.
    fn unlike(&self, target: &mut Target) -> Result<String> {
        self.handle.block_on(async {
            let mut connection = target.connect().await?;
            let mut told = Vec::new();
            for (collection, table) in COLLECTIONS.into_iter().zip(TABLES) {
                let name = format!("public.{table}");
                let found = compare(&self.source, collection, &mut connection, &name).await?;
                let letters = sqlx::query_scalar(LETTERS).bind(table);
                let letters: Vec<String> = letters.fetch_all(&mut connection).await?;
                told.extend(differences(table, found, &letters));
            }
            Ok(told.join("; "))
        })
    }

    /// No document's content stands where it must not.
    fn told_nothing(&self, target: &mut Target) -> Result<()> {
        let incidents = self.handle.block_on(async {
            let mut connection = target.connect().await?;
            texts(&mut connection, "select i::text from tidemark.incident i").await
        })?;
        let incidents = incidents.join("\n");
        let logs = self.daemons.logs();
        let places =
            [("the log", &logs), ("incidents", &incidents), ("notices", &self.fakes.raw())];
        for (place, text) in places {
            if let Some(line) = text.lines().find(|line| line.contains(CANARY)) {
                let brief: String = line.chars().take(300).collect();
                self.story.found(format!("content of a document in {place}: {brief}"));
            }
        }
        if let Some(line) = logs.lines().find(|line| line.contains("panicked at")) {
            self.story.found(format!("a panic: {line}"));
        }
        Ok(())
    }

    fn until(&self, mut holds: impl FnMut() -> Result<bool>, otherwise: &str) -> Result<()> {
        if !self.until_quietly(self.patience, &mut holds)? {
            let (_, text) = self.program.run(&["status"])?;
            self.story.found(format!("{otherwise} after {:?}:\n{text}", self.patience));
        }
        Ok(())
    }

    /// Errors are the world's: it was disturbed a moment ago.
    fn until_quietly(
        &self,
        patience: Duration,
        holds: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            self.daemons.keep(self.story)?;
            match holds() {
                Ok(true) => return Ok(true),
                Err(error) if Instant::now() > deadline => return Err(error),
                Ok(false) if Instant::now() > deadline => return Ok(false),
                _ => std::thread::sleep(Duration::from_secs(1)),
            }
        }
    }
}

fn differences(table: &str, found: Comparison, letters: &[String]) -> Vec<String> {
    let kinds =
        [("missing", found.missing), ("extra", found.extra), ("different", found.different)];
    let told = kinds.into_iter().filter_map(|(kind, mut ids)| {
        ids.retain(|id| !letters.contains(id));
        let some = ids.get(..ids.len().min(5)).unwrap_or_default().join(", ");
        (!ids.is_empty()).then(|| format!("{table}: {} {kind} ({some})", ids.len()))
    });
    told.collect()
}

async fn texts(connection: &mut PgConnection, sql: &'static str) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(sql).fetch_all(connection).await?)
}
