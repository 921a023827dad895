//! A full resync on request: what it would do, what is under way, what was repaired.

use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::left_out::refuse_paused;
use super::slip::{Slip, Unable};
use crate::apply::living;
use crate::error::Fault;
use crate::postgres::{Target, close, with_deadline};
use crate::settings::{Settings, StreamSettings};
use crate::source::{ChangeStreamOptions, Source};
use crate::state::{Command, GapReport, Start, StateTables, WalkRow};

/// What a resync of a stream would do.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    pub stream: String,
    pub source: String,
    pub table: String,
    pub documents: u64,
    pub rows: u64,
    /// Whether the stored position goes on to be used.
    pub position: String,
    /// More deletions than this are held for a person's word.
    pub deletes_without_asking: u64,
    pub documents_per_second_max: u64,
    /// A resync under way already.
    pub open: Option<WalkRow>,
    /// The stream is halted: this resync would take the place of one under way, which would end as
    /// failed.
    pub halted: bool,
}

/// A walk with what it repaired.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    pub walk: WalkRow,
    pub gap: Option<GapReport>,
    /// It has not ended, and nobody goes on with it: its stream is not configured any more.
    pub is_left: bool,
    /// Who asked for it, and who approved its sweep.
    pub asked: Option<Command>,
    pub approved: Option<Command>,
}

/// So many names of streams are listed to whoever slips.
const LISTED_MAX: usize = 20;

/// The stream of this name.
///
/// # Errors
/// There is none; the message lists those there are, or of many the one that is likely meant.
pub fn stream<'s>(settings: &'s Settings, name: &str) -> Result<&'s StreamSettings, Slip> {
    settings.streams.iter().find(|stream| stream.name == name).ok_or_else(|| {
        let names: Vec<&str> = settings.streams.iter().map(|stream| stream.name.as_str()).collect();
        let likeness = |other: &&str| strsim::jaro_winkler(other, name);
        let likely = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let others = match likely {
            Some(likely) if names.len() > LISTED_MAX => format!("did you mean {likely}?"),
            _ => format!("configured are {}", names.join(", ")),
        };
        let hint = "`tidemark status --all` shows them";
        Slip::new(format!("there is no stream {name}; {others}"), hint)
    })
}

/// The same, if it is no other service's or environment's.
///
/// # Errors
/// There is none, or it is; or whatever Postgres answers.
pub async fn own_stream<'s>(
    settings: &'s Settings,
    state: &StateTables,
    name: &str,
) -> Result<&'s StreamSettings, Unable> {
    let stream = stream(settings, name)?;
    state.refuse_anothers(&[name]).await?;
    Ok(stream)
}

/// Looks at both ends; changes nothing.
pub async fn preview(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    name: &str,
) -> Result<Preview, Unable> {
    let stream = own_stream(settings, state, name).await?;
    refuse_paused(state, name).await?;
    let source = Source::new(settings).await?.of_database(settings.database_of(stream));
    let namespace = source.namespace(&stream.collection).to_string();
    let table = settings.table_of(stream);
    let mut connection = target.connect().await?;
    let count = AssertSqlSafe(format!(
        "select count(*) from {} as t",
        living(&table.sql(), stream.keeping)
    ));
    let rows = with_deadline(
        target.deadline(),
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection),
    )
    .await?;
    close(connection).await;
    let rows = u64::try_from(rows).unwrap_or_default();
    let options = ChangeStreamOptions::of(&[stream], settings).fingerprint();
    let stored = state.load(&stream.group).await?;
    let parked = state.stream_row(name).await?.is_some_and(|row| row.parked_code.is_some());
    let halted = parked || stored.as_ref().is_some_and(|stored| stored.halt_code.is_some());
    let position = match stored {
        None => "none is stored".to_owned(),
        Some(stored) => match stored.start(settings.database_of(stream), &options) {
            Start::Resume(position) => format!("goes on from {}", position.cluster_time.at()),
            Start::New => "none is stored".to_owned(),
            Start::Lost(_, why) => format!("a new one is taken: {why}"),
            Start::Refused(version) => format!("refused: of a newer release (format {version})"),
        },
    };
    Ok(Preview {
        stream: name.to_owned(),
        documents: source.estimate(&stream.collection).await?,
        source: namespace,
        table: table.to_string(),
        rows,
        position,
        deletes_without_asking: deletes_without_asking(settings, rows),
        documents_per_second_max: settings.resync.documents_per_second_max,
        open: state.open_walk(name).await?,
        halted,
    })
}

/// So many of a table's rows are deleted without a person's word.
pub(super) fn deletes_without_asking(settings: &Settings, rows: u64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of rows, for people"
    )]
    let share = (rows as f64 * settings.resync.delete_fraction_max) as u64;
    share.max(settings.resync.delete_count_min.saturating_sub(1))
}

/// The latest walks with their gap reports, newest first.
pub async fn list(settings: &Settings, state: &StateTables) -> Result<Vec<Listed>, Fault> {
    let mut listed = Vec::new();
    for walk in state.walks(50).await? {
        let gap = state.gap_report(walk.id).await?;
        let asked = state.asked_at(&walk.stream, walk.started_at).await?;
        let approved = match walk.approved_at {
            Some(at) => state.asked_at(&walk.stream, at).await?,
            None => None,
        };
        let is_followed = settings.streams.iter().any(|stream| stream.name == walk.stream);
        let is_left = walk.ended_at.is_none() && !is_followed;
        listed.push(Listed { walk, gap, is_left, asked, approved });
    }
    Ok(listed)
}

/// An open walk by its id, if it can be cancelled.
///
/// # Errors
/// It cannot; or as for [`open`].
pub async fn cancellable(state: &StateTables, id: i64) -> Result<WalkRow, Unable> {
    let walk = open(state, id).await?;
    if !state.owes_a_walk(&walk.stream).await? {
        return Ok(walk);
    }
    let stream = &walk.stream;
    let why = format!(
        "resync {id} cannot be cancelled: rows of {stream} that it has not come to would be \
         missing, as another mapping made them, or another source's, for ever"
    );
    let hint = "`tidemark pause` stops it for a while; resync.documents_per_second_max slows it";
    Err(Slip::new(why, hint).into())
}

/// A walk by its id.
///
/// # Errors
/// There is none that has not ended; or whatever Postgres answers.
pub async fn open(state: &StateTables, id: i64) -> Result<WalkRow, Unable> {
    let walks = state.walks(1_000).await?;
    let open = walks.into_iter().find(|walk| walk.id == id && walk.ended_at.is_none());
    let missing = || {
        let hint = "`tidemark resync list` shows them";
        Slip::new(format!("there is no resync {id} under way"), hint)
    };
    Ok(open.ok_or_else(missing)?)
}
