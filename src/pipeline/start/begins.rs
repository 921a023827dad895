//! Where a group begins: what is known of its stored position, and of those that its streams bring
//! with them, from a group that let them go or from an older release.

use chrono::{DateTime, Utc};

use crate::error::{Class, Code, Fault};
use crate::model::position::{ClusterTime, Position, ResumeToken, resumes_under};
use crate::model::reason::Reason;
use crate::pipeline::binding::{entry_of, of_cluster, proved_by};
use crate::pipeline::context::{Context, GroupContext};
use crate::source::Source;
use crate::state::{OwnPosition, Start, Stored, StreamRow};

/// A group goes back no further than this for streams that come into it: what it reads once more is
/// written once more. For one that was left earlier its table is walked.
const BACK_MAX_SECONDS: f64 = 600.0;

/// Where a group begins.
pub(in crate::pipeline) struct Begins {
    /// The position to go on from, if there is one.
    pub position: Option<Position>,
    /// The group has a stored one that can be used.
    pub is_stored: bool,
    /// It is not the stored one, but the oldest of the streams' own.
    pub is_own: bool,
    /// Why the stored one cannot be used, if there is one.
    pub lost: Option<(Reason, String)>,
    /// What streams bring with them, and whether it can be gone on from.
    pub own: Vec<(OwnPosition, bool)>,
    /// Streams whose positions are not this source's, each with what is said of it.
    pub foreign: Vec<(String, Fault)>,
}

impl Begins {
    /// What the stored position is worth, and what the streams bring with them. `walks` if a walk
    /// of the group is open: its reads count from the stored position on.
    pub async fn of(
        group: &GroupContext,
        stored: &Stored,
        trouble: Option<&Fault>,
        walks: bool,
    ) -> Result<Self, Fault> {
        let lost = |reason, why: &str| {
            let lost = Some((reason, why.to_owned()));
            let (own, foreign) = (Vec::new(), Vec::new());
            Ok(Self { position: None, is_stored: false, is_own: false, lost, own, foreign })
        };
        let position = match stored.start(group.source.database_name(), &group.fingerprint()) {
            Start::Refused(version) => {
                let message =
                    format!("the checkpoint was written by a newer release (format {version})");
                let hint = "run that release, or a later one";
                return Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint));
            }
            Start::Lost(reason, why) => return lost(reason, &why),
            Start::Resume(_) if trouble.is_some_and(|t| t.class == Class::HistoryLost) => {
                let why = trouble.map(|trouble| trouble.message.as_str());
                return lost(Reason::HistoryLost, why.unwrap_or_default());
            }
            Start::Resume(position) => Some(position),
            Start::New => None,
        };
        let (own, foreign) = own_positions(group, position.as_ref(), walks).await?;
        let usable = own.iter().filter_map(|(_, usable)| usable.as_ref());
        let oldest = usable.min_by_key(|position| position.cluster_time).cloned();
        let is_own = oldest.as_ref().is_some_and(|oldest| goes_back(oldest, position.as_ref()));
        Ok(Self {
            is_stored: position.is_some(),
            position: if is_own { oldest } else { position },
            is_own,
            lost: None,
            own: own.into_iter().map(|(own, usable)| (own, usable.is_some())).collect(),
            foreign,
        })
    }

    /// Up to which time rows may be, of streams that bring positions and of the group's others, if
    /// it goes back.
    pub fn ahead(&self, stored: &Stored) -> Option<ClusterTime> {
        let usable = self.own.iter().filter(|(_, is_usable)| *is_usable);
        let until = usable.filter_map(|(own, _)| own.cluster_time).max()?;
        Some(ClusterTime::from_sql(until.max(stored.cluster_time.unwrap_or_default())))
    }
}

fn goes_back(own: &Position, stored: Option<&Position>) -> bool {
    stored.is_none_or(|stored| own.cluster_time < stored.cluster_time)
}

/// What a stream brings with it, and the position if that can be gone on from.
type Brought = (OwnPosition, Option<Position>);

/// What its streams bring with them, each with its position if it can be gone on from: the source
/// still has it, and it is not long before the stored one. Apart from these, the streams whose
/// positions are not this source's: that is for a person to say, and those of no other stream.
async fn own_positions(
    group: &GroupContext,
    stored: Option<&Position>,
    walks: bool,
) -> Result<(Vec<Brought>, Vec<(String, Fault)>), Fault> {
    let mut own = group.state.own_positions(&group.names()).await?;
    own.retain(|own| own.resume_token.is_some() || own.revision > 0);
    if own.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let oldest_entry = group.source.oldest_entry().await;
    let (mut known, mut foreign) = (Vec::with_capacity(own.len()), Vec::new());
    for own in own {
        if let Err(fault) = is_of(&group.source, &own).await? {
            foreign.push((own.stream, fault));
            continue;
        }
        let position = usable(group, &own).filter(|position| {
            oldest_entry.is_none_or(|oldest| position.cluster_time >= oldest)
                && is_near(position, stored, walks)
        });
        known.push((own, position));
    }
    Ok((known, foreign))
}

/// Whether what a stream brings from another group is this source's.
async fn is_of(source: &Source, own: &OwnPosition) -> Result<Result<(), Fault>, Fault> {
    let token = own.resume_token.as_deref().and_then(|token| ResumeToken::new(token).ok());
    let of_group = token.filter(|_| own.group.is_some());
    match of_group.and_then(|token| entry_of(&token, own.begun_time)) {
        Some(time) => Ok(proved_by(source.entry_at(time).await?)),
        None => Ok(Ok(())),
    }
}

/// Whether the rows of a stream, and what it brings from another group, are this source's.
pub(in crate::pipeline) async fn is_of_this_source(
    context: &Context,
) -> Result<Result<(), Fault>, Fault> {
    let row = context.state.stream_row(&context.config.name).await?;
    let binding = row.as_ref().and_then(StreamRow::binding);
    if let Err(fault) = of_cluster(binding, context.source.cluster().await?.as_ref()) {
        return Ok(Err(fault));
    }
    for own in context.state.own_positions(&[&context.config.name]).await? {
        if let Err(fault) = is_of(&context.source, &own).await? {
            return Ok(Err(fault));
        }
    }
    Ok(Ok(()))
}

/// One that this very group left was not followed since: whoever took it out meant that.
fn usable(group: &GroupContext, own: &OwnPosition) -> Option<Position> {
    if own.group.as_deref() == Some(&*group.name) {
        return None;
    }
    let is_moved = own.group.is_some();
    let fits = !is_moved || resumes_under(&own.options, &group.fingerprint());
    let source = group.stream(&own.stream)?.namespace.to_string();
    own.usable(&source).filter(|_| fits)
}

fn is_near(own: &Position, stored: Option<&Position>, walks: bool) -> bool {
    let Some(stored) = stored.filter(|stored| goes_back(own, Some(stored))) else { return true };
    !walks && stored.cluster_time.seconds_since(own.cluster_time) <= BACK_MAX_SECONDS
}

/// Since when what happened at the source may not be in a stream's table: the last that is known of
/// the group, its position's time, else when its row was last written; or, if the group went on
/// without the stream, since it did.
pub fn blind_from(stored: &Stored, row: Option<&StreamRow>) -> Option<DateTime<Utc>> {
    let of_group = stored
        .time()
        .map(ClusterTime::at)
        .or_else(|| (stored.revision > 0).then_some(stored.updated_at));
    of_group.into_iter().chain(row.and_then(StreamRow::missed_since)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Position {
        let token = ResumeToken::of_text("8265A1B2C3000000052B0229296E04");
        Position { token, cluster_time: ClusterTime::new(seconds << 32) }
    }

    #[test]
    fn a_group_goes_back_a_little_way_and_not_under_an_open_walk() {
        let stored = at(10_000);
        assert!(is_near(&at(9_400), Some(&stored), false));
        assert!(!is_near(&at(9_399), Some(&stored), false), "it was left long ago");
        assert!(!is_near(&at(9_999), Some(&stored), true), "a walk's reads count from there on");
        assert!(is_near(&at(10_001), Some(&stored), true), "the group is behind it");
        assert!(is_near(&at(1), None, true), "the group has none to go back from");
    }
}
