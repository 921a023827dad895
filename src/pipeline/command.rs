//! What people ask of a stream: the process that leads its group carries it out, between two
//! pipelines.
//!
//! A request that cannot be carried out is tried again, later and later, and ends with a reason.
//! Meanwhile the group goes on, and the next request has its turn.

mod adopt;
mod let_go;
mod reread;
mod under_way;

use self::under_way::under_way;
use super::binding::{foreign, place};
use super::context::{Context, GroupContext};
use super::dead_letter;
use super::pause;
use super::start::{blind_from, position_now};
use crate::error::{Class, Fault};
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::shown::shown;
use crate::source::Found;
use crate::spans::Span;
use crate::state::{
    Act, Beginning, Changes, Command, Lease, Letters, NewPosition, Outcome, Start, Stored,
    StreamRow, Verb,
};
use crate::{failpoint, retry};

/// Tries of one request, if `retry.attempts_max` does not say fewer: some minutes with the pauses
/// between them.
const TRIES_MAX: u64 = 10;

/// How a request ended, and what is said of it.
type Answered = (Outcome, String);

/// Carries out every request whose turn it is. What was carried out before an error stays so; what
/// came of one request is written down and is no error.
pub async fn obey(group: &GroupContext, lease: &Lease) -> Result<(), Fault> {
    let (pause, names) = (group.settings.retry.delay_max, group.names());
    while let Some(command) = group.state.take_command(lease, &names, pause).await? {
        failpoint::hit("obey.taken");
        let tries = u64::from(command.attempts.unsigned_abs());
        let asked = Asked { group, lease, command: &command };
        let mut span = Span::begin("command");
        span.text("tidemark.stream", &command.stream);
        span.text("tidemark.verb", Verb::parse(&command.verb).map_or("unknown", Verb::name));
        let obeyed = if tries > tries_max(group) {
            // It never came to an answer: processes ended by it.
            let why = format!("the process ended at each of {} tries", tries - 1);
            asked.act(Act::Fail(why)).await.map(Some)
        } else {
            asked.obey().await
        };
        let ended = match obeyed {
            Ok(ended) => ended,
            Err(fault) if matches!(fault.class, Class::Fenced | Class::Rewound) => {
                return Err(fault);
            }
            Err(fault) => asked.not_obeyed(&fault).await?,
        };
        let Some((outcome, result)) = ended else {
            span.fail();
            continue;
        };
        span.text("tidemark.outcome", outcome.name());
        tracing::info!(
            stream = command.stream,
            command = command.id,
            verb = shown(&command.verb),
            actor = shown(&command.asked_by()),
            outcome = outcome.name(),
            result = shown(&result),
            "request ended"
        );
    }
    Ok(())
}

fn tries_max(group: &GroupContext) -> u64 {
    match group.settings.retry.attempts_max {
        0 => TRIES_MAX,
        attempts_max => attempts_max.min(TRIES_MAX),
    }
}

/// A request that was taken.
struct Asked<'a> {
    group: &'a GroupContext,
    lease: &'a Lease,
    command: &'a Command,
}

impl Asked<'_> {
    async fn act(&self, act: Act<'_>) -> Result<Answered, Fault> {
        self.group.state.obey(self.lease, self.command, &act).await
    }

    async fn refuse(&self, why: impl Into<String>) -> Result<Answered, Fault> {
        self.act(Act::Refuse(why.into())).await
    }

    /// What becomes of a request that could not be carried out: it waits for its next turn, or ends
    /// as failed.
    async fn not_obeyed(&self, fault: &Fault) -> Result<Option<Answered>, Fault> {
        let (group, command) = (self.group, self.command);
        let tries = u64::from(command.attempts.unsigned_abs());
        let tries_max = tries_max(group);
        let why = format!("failed after {tries} of {tries_max} tries: {fault}");
        let is_late = fault.class == Class::HistoryLost;
        if is_late {
            // The table that it was to write is not what it was, which is seen to before its turn.
            group.doubt();
        }
        if (is_late || fault.class.may_retry()) && tries < tries_max {
            let delay = retry::delay(group.settings.retry, tries, fastrand::f64());
            tracing::warn!(
                stream = command.stream,
                command = command.id,
                tries,
                "request not obeyed yet: {fault}"
            );
            group.state.put_off_command(command.id, delay, &why).await?;
            return Ok(None);
        }
        self.act(Act::Fail(why)).await.map(Some)
    }

    /// `None` if it has more to do at its next turn.
    async fn obey(&self) -> Result<Option<Answered>, Fault> {
        let Some(context) = self.group.stream(&self.command.stream) else {
            return self.refuse("the stream is not in this group").await.map(Some);
        };
        if let Some(why) = self.waits(context).await? {
            return self.refuse(why).await.map(Some);
        }
        if Verb::parse(&self.command.verb) == Some(Verb::ResyncPart) {
            return self.resync_part(context).await;
        }
        self.obey_at_once(context).await.map(Some)
    }

    async fn obey_at_once(&self, context: &Context) -> Result<Answered, Fault> {
        let (group, command) = (self.group, self.command);
        let why = format!("{} (asked for by {})", command.reason, command.asked_by());
        let number = |name| command.arguments.get(name).and_then(serde_json::Value::as_i64);
        let id = number("id").unwrap_or_default();
        match Verb::parse(&command.verb) {
            Some(Verb::Resync) => self.resync(context, &why).await,
            Some(Verb::ResyncCancel) => {
                let walk = group.state.open_walk(&command.stream).await?;
                let ended = self.act(Act::Cancel { id }).await?;
                if let Some(walk) = walk.filter(|walk| walk.id == id && ended.0 == Outcome::Done) {
                    context.status.walk_ended(walk.reason(), ResyncState::Cancelled);
                }
                Ok(ended)
            }
            Some(Verb::ResyncApprove) => self.act(Act::Approve { id }).await,
            Some(Verb::CheckpointRewind) => self.rewind().await,
            Some(Verb::DeadLetterRetry) => self.retry(context).await,
            Some(Verb::DeadLetterAccept) => {
                self.act(Act::Accept { number: number("count").unwrap_or_default() }).await
            }
            Some(Verb::SourceAdopt) => self.adopt(context, &why).await,
            Some(Verb::Pause) => self.pause(context).await,
            Some(Verb::Resume) => self.act(Act::Resume).await,
            Some(Verb::DeadLetterDiscard) => self.act(Act::Discard { ids: &ids(command) }).await,
            // The others are no stream's, or take more than one turn.
            Some(
                Verb::ResyncPart
                | Verb::Purge
                | Verb::Reload
                | Verb::LogLevel
                | Verb::IncidentAck
                | Verb::IncidentMute
                | Verb::IncidentUnmute,
            )
            | None => self.refuse(format!("{} is not known to this release", command.verb)).await,
        }
    }

    async fn stored(&self) -> Result<Stored, Fault> {
        let stored = self.group.state.load(&self.group.name).await?;
        stored.ok_or_else(|| Fault::bug("a lease without a checkpoint row"))
    }

    /// The position is the group's: all of its streams go back.
    async fn rewind(&self) -> Result<Answered, Fault> {
        let stored = self.stored().await?;
        match rewind_to(self.command, &stored) {
            Ok(to) => {
                let (present, streams) = (stored.time().unwrap_or_default(), self.group.names());
                self.act(Act::Rewind { to: &to, streams: &streams, present }).await
            }
            Err(why) => self.refuse(why).await,
        }
    }

    async fn retry(&self, context: &Context) -> Result<Answered, Fault> {
        let (group, command, stored) = (self.group, self.command, self.stored().await?);
        if let Err(why) = self.collection(context, &stored).await? {
            return self.refuse(why).await;
        }
        let mut letters = Vec::new();
        for id in ids(command) {
            let found = group.state.letters(&Letters::One(id)).await?.into_iter();
            letters.extend(
                found.filter(|letter| {
                    letter.stream == command.stream && letter.resolved_at.is_none()
                }),
            );
        }
        self.act(dead_letter::retry(group, context, self.lease, &stored, &letters).await?).await
    }

    /// A resync somebody asked for: from the stored position, if it can be used, since then nothing
    /// was missed after it.
    async fn resync(&self, context: &Context, why: &str) -> Result<Answered, Fault> {
        let (group, command, stored) = (self.group, self.command, self.stored().await?);
        let row = group.state.stream_row(&command.stream).await?;
        if let Some(pause) = row.as_ref().and_then(StreamRow::pause_in_force) {
            return self.refuse(pause.in_the_way()).await;
        }
        let place = place(group, &stored).await?;
        if let Some(why) = foreign(row.iter(), group, &place) {
            return self.refuse(foreign_source(&why)).await;
        }
        let now = group.source.now().await?;
        let here = place.of(context, row.as_ref()).await?;
        if here.found == Found::Nothing && here.table.holds_rows {
            let there = "there is no collection";
            let why = format!("{there} {}: nothing can be concluded from it", context.namespace);
            return self.refuse(why).await;
        }
        let is_parked = row.as_ref().is_some_and(|row| row.parked_code.is_some());
        let is_halted = stored.halt_code.is_some();
        // A halted or parked stream asks for one: what is still open ends as failed, and its report
        // is carried on.
        if !is_halted
            && !is_parked
            && let Some(open) = group.state.open_walk(&command.stream).await?
        {
            let is_owed = group.state.owes_a_walk(&command.stream).await?;
            return self.refuse(under_way(&open, is_owed)).await;
        }
        let usable = match stored.start(group.source.database_name(), &group.fingerprint()) {
            Start::Refused(version) => {
                let why = format!("the checkpoint is of a newer release (format {version})");
                return self.refuse(why).await;
            }
            // A halted group's position may be what it halts on.
            Start::Resume(position) if !is_halted => Some(position),
            Start::Resume(_) | Start::New | Start::Lost(..) => None,
        };
        let fresh = if usable.is_none() { Some(position_now(group).await?.0) } else { None };
        let divergence = command.arguments.get("divergence").is_some();
        // A stream that was not taken up since its mapping is another has yet to be made anew.
        let mapping = row.as_ref().and_then(StreamRow::mapping);
        let is_remade = mapping.and_then(|before| context.mapping.digest().since(&before).why());
        let reason = match &is_remade {
            Some(_) => Reason::MappingChanged,
            None if divergence => Reason::Divergence,
            None => Reason::Requested,
        };
        let position = fresh.as_ref().or(usable.as_ref());
        let position = position.map_or(ClusterTime::default(), |p| p.cluster_time);
        let walk = Beginning {
            stream: &command.stream,
            reason,
            why,
            // Rows of up to now that are followed no more are older than a walk of the mapping.
            start_time: if is_remade.is_some() { position.max(now).next() } else { position },
            blind_from: match &fresh {
                Some(_) => blind_from(&stored, row.as_ref()),
                None => row.as_ref().and_then(StreamRow::missed_since),
            },
            documents_estimated: context.source.estimate(&context.config.collection).await.ok(),
            by_content: !reason.is_automatic(),
            bound: here.bound(context),
        };
        let changes = Changes { walks: vec![walk], ..Changes::default() };
        self.begin(fresh.as_ref(), changes, why).await
    }

    /// The group goes on without the stream for a while.
    async fn pause(&self, context: &Context) -> Result<Answered, Fault> {
        let (group, stream) = (self.group, &self.command.stream);
        let pause = match pause::asked(self.command, chrono::Utc::now()) {
            Ok(pause) => pause,
            Err(why) => return self.refuse(why).await,
        };
        let walk = group.state.open_walk(stream).await?;
        let ended = self.act(Act::Pause(&pause)).await?;
        if let Some(walk) = walk {
            context.status.walk_ended(walk.reason(), ResyncState::Cancelled);
        }
        Ok(ended)
    }

    async fn begin(
        &self,
        fresh: Option<&Position>,
        changes: Changes<'_>,
        why: &str,
    ) -> Result<Answered, Fault> {
        let (database, options) = (self.group.source.database_name(), self.group.fingerprint());
        let position =
            fresh.map(|position| NewPosition { position, database, options: &options, why });
        let changes = Changes { position, ..changes };
        self.act(Act::Begin(Box::new(changes))).await
    }
}

fn foreign_source(why: &str) -> String {
    format!("{why}; if this source is meant, `tidemark source adopt` says so")
}

/// The dead letters a request names.
fn ids(command: &Command) -> Vec<i64> {
    let named = command.arguments.get("ids").and_then(serde_json::Value::as_array);
    named.into_iter().flatten().filter_map(serde_json::Value::as_i64).collect()
}

/// Only back: a position further on would skip what lies between.
fn rewind_to(command: &Command, stored: &Stored) -> Result<Position, String> {
    let field = |name| command.arguments.get(name);
    let token = field("resume_token")
        .and_then(serde_json::Value::as_str)
        .ok_or("the request names no token")?;
    let time = field("cluster_time")
        .and_then(serde_json::Value::as_i64)
        .ok_or("the request names no time")?;
    let bytes = crate::model::position::unhex(token).ok_or("the request's token is not hex")?;
    let token = ResumeToken::new(&bytes)
        .map_err(|error| format!("the request's token is no resume token: {error}"))?;
    let position = Position { token, cluster_time: ClusterTime::from_sql(time) };
    if stored.is_behind(&position) {
        let why = "that position is further on than the present one: what lies between would be \
                   skipped";
        return Err(why.to_owned());
    }
    Ok(position)
}
