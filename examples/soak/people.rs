//! Those who give commands, at random or as an incident tells them.

use devstack::Result;
use fastrand::Rng;
use sqlx::{Connection as _, PgConnection};
use tokio::runtime::Handle;

use crate::action::Action;
use crate::daemons::Program;
use crate::story::Story;
use crate::target::TABLES;

const OPEN_WALK: &str = "select id from tidemark.resync
    where state in ('running', 'sweeping', 'held') order by random() limit 1";
const HELD_WALK: &str = "select id from tidemark.resync where state = 'held' limit 1";
const INCIDENT: &str =
    "select id from tidemark.incident where resolved_at is null order by random() limit 1";
const POSITION: &str = "select concat_ws(' ', (select min(s.stream) from tidemark.stream as s
        where s.\"group\" = h.\"group\"), id) from tidemark.checkpoint_history as h
    order by id desc limit 1";

pub struct People {
    program: Program,
    url: String,
    handle: Handle,
}

impl People {
    pub fn new(program: Program, url: String, handle: &Handle) -> Self {
        Self { program, url, handle: handle.clone() }
    }

    pub fn perform(&self, action: Action, rng: &mut Rng, story: &Story) -> Result<String> {
        let stream = TABLES[rng.usize(..TABLES.len())];
        match action {
            Action::Resync => self.resync(stream, story),
            Action::CancelResync => {
                let id = self.id(OPEN_WALK)?;
                self.command(&["resync", "cancel", &id, "--reason", "soak", "--execute"], story)
            }
            Action::ApproveResync => self.approve(story),
            Action::Compare if rng.bool() => {
                self.command(&["compare", stream, "--sample", "200"], story)
            }
            Action::Compare => self.command(&["compare", stream], story),
            Action::Rewind => {
                let position: String = self.one(POSITION)?;
                let (stream, id) = position.split_once(' ').ok_or("a position without a stream")?;
                let rewind = ["checkpoint", "rewind", stream, "--to", id];
                self.command(&[&rewind[..], &["--reason", "soak", "--execute"]].concat(), story)
            }
            Action::RetryLetters => self.letters("retry", stream, story),
            Action::Acknowledge => {
                let id = self.id(INCIDENT)?;
                let ack = ["incident", "ack", &id, "--by", "soak", "--until", "1m"];
                self.command(&ack, story)
            }
            other => Err(format!("{other:?} is no command").into()),
        }
    }

    pub fn resync(&self, stream: &str, story: &Story) -> Result<String> {
        self.command(&["resync", stream, "--reason", "soak", "--execute"], story)
    }

    pub fn approve(&self, story: &Story) -> Result<String> {
        let id = self.id(HELD_WALK)?;
        self.command(&["resync", "approve", &id, "--reason", "soak", "--execute"], story)
    }

    pub fn letters(&self, verb: &str, stream: &str, story: &Story) -> Result<String> {
        let of_all = ["dead-letter", verb, "--all", stream, "--reason", "soak", "--execute"];
        self.command(&of_all, story)
    }

    fn id(&self, sql: &'static str) -> Result<String> {
        Ok(self.one::<i64>(sql)?.to_string())
    }

    fn one<T>(&self, sql: &'static str) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let url = self.url.clone();
        let found: Option<T> = self.handle.block_on(async {
            let mut connection = PgConnection::connect(&url).await?;
            sqlx::query_scalar(sql).fetch_optional(&mut connection).await
        })?;
        found.ok_or_else(|| "there is none".into())
    }

    /// Refusing is an answer; not answering, not understanding and panicking are none.
    fn command(&self, arguments: &[&str], story: &Story) -> Result<String> {
        let (code, text) = self.program.run(arguments)?;
        let asked = arguments.join(" ");
        let last = text.trim().lines().last().unwrap_or_default().to_owned();
        if !matches!(code, Some(0 | 1 | 69 | 75)) || text.contains("panicked at") {
            story.found(format!("`{asked}` ended with {code:?}: {last}"));
        }
        Ok(format!("`{asked}`: {} {last}", code.unwrap_or(-1)))
    }
}
