//! What is to be said of a stream before all else: the one order of trouble, which the verdict, the
//! page and `tidemark status` share. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::group_report::GroupReport;
use super::report::Verdict;
use super::stream_report::{ComparedReport, StreamReport};
use crate::error::{Code, Severity, rules};
use crate::model::history_window::Headroom;
use crate::model::phase::Phase;
use crate::model::resync_state::ResyncState;

/// Worst first. The first nine are trouble; the others are told, and end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    Halted,
    Parked,
    /// Less than a quarter of its history is left.
    Expiring,
    /// Its walk waits for a person.
    Held,
    /// The source confirms nothing.
    Unconfirmed,
    Retrying,
    /// Less than half of its history is left.
    HalfExpired,
    /// A comparison found source and table to differ.
    Differs,
    DeadLetters,
    Paused,
    Walking,
    Queued,
    Drift,
}

/// Groups by name, as far as they have more than one stream: what befalls one of these is said of
/// the group, once, and not of each of its streams.
#[derive(Debug)]
pub struct SharedGroups<'a>(BTreeMap<&'a str, &'a GroupReport>);

impl<'a> SharedGroups<'a> {
    pub fn new(groups: &'a [GroupReport], streams: &'a [StreamReport]) -> Self {
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for stream in streams {
            *sizes.entry(&stream.group).or_default() += 1;
        }
        let is_many = |group: &&GroupReport| sizes.get(group.name.as_str()).is_some_and(|n| *n > 1);
        Self(groups.iter().filter(is_many).map(|group| (group.name.as_str(), group)).collect())
    }

    /// The group of a stream, if it has others.
    pub fn of(&self, stream: &StreamReport) -> Option<&'a GroupReport> {
        self.0.get(stream.group.as_str()).copied()
    }

    pub fn groups(&self) -> impl Iterator<Item = &'a GroupReport> {
        self.0.values().copied()
    }
}

impl Concern {
    /// `shared`: the stream's group, where what is the group's is left to be said of that.
    pub fn of(stream: &StreamReport, shared: Option<&GroupReport>) -> Option<Self> {
        let alone = shared.is_none();
        let halted = |group: &GroupReport| group.phase == Phase::Halted;
        let expiring = stream.headroom().and_then(Headroom::severity).filter(|_| alone);
        let own = |failing| shared.is_none_or(|group| !group.failing.contains(failing));
        let walk = stream.resync.as_ref();
        let differ = stream.compared.as_ref().map_or(0, ComparedReport::differences) > 0;
        let concerns = [
            (stream.phase == Phase::Halted && !shared.is_some_and(halted), Self::Halted),
            (stream.phase == Phase::Parked, Self::Parked),
            (expiring == Some(Severity::Critical), Self::Expiring),
            (walk.is_some_and(|walk| walk.state == ResyncState::Held), Self::Held),
            (stream.unconfirmed_since.is_some() && alone, Self::Unconfirmed),
            (stream.retrying > 0 && (alone || stream.failing.iter().any(own)), Self::Retrying),
            (expiring.is_some(), Self::HalfExpired),
            (differ, Self::Differs),
            (stream.dead_letters > 0, Self::DeadLetters),
            (stream.phase == Phase::Paused, Self::Paused),
            (stream.phase == Phase::Queued, Self::Queued),
            (walk.is_some(), Self::Walking),
            (!stream.drift.is_empty(), Self::Drift),
        ];
        concerns.into_iter().find(|(is_so, _)| *is_so).map(|(_, concern)| concern)
    }

    /// How bad it is; a parked stream is as bad as its cause.
    pub fn verdict(self, stream: &StreamReport) -> Verdict {
        match self {
            Self::Halted | Self::Expiring | Self::Held => Verdict::Critical,
            Self::Parked => Verdict::of(rules::of(stopped(stream)).severity),
            Self::Unconfirmed
            | Self::Retrying
            | Self::HalfExpired
            | Self::Differs
            | Self::DeadLetters => Verdict::Degraded,
            Self::Paused | Self::Walking | Self::Queued | Self::Drift => Verdict::Healthy,
        }
    }
}

/// Why a parked stream is.
pub fn stopped(stream: &StreamReport) -> Code {
    stream.halt_code.as_deref().and_then(Code::parse).unwrap_or(Code::StreamParked)
}

/// Where a stream with a concern stands among others: the smallest first.
pub type Rank = (Reverse<Verdict>, Concern);

pub fn rank(stream: &StreamReport, shared: Option<&GroupReport>) -> Option<Rank> {
    let concern = Concern::of(stream, shared)?;
    Some((Reverse(concern.verdict(stream)), concern))
}

/// The streams, worst first; those of which nothing is to be said, last.
pub fn worst_first<'a>(
    streams: &'a [StreamReport],
    shared: &SharedGroups<'_>,
) -> Vec<(Option<Rank>, &'a StreamReport)> {
    let mut ranked: Vec<_> =
        streams.iter().map(|stream| (rank(stream, shared.of(stream)), stream)).collect();
    ranked.sort_by_key(|(rank, _)| (rank.is_none(), *rank));
    ranked
}
