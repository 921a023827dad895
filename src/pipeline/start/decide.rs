//! What is done about a stream when its group begins: pure, but for the day's allowance and whether
//! its collection holds anything.

use super::begins::Begins;
use crate::error::{Class, Code, Fault};
use crate::model::mapping_digest::MappingDigest;
use crate::model::position::ClusterTime;
use crate::model::reason::Reason;
use crate::pipeline::binding::{BindingVerdict, Here, halt_on, judge};
use crate::pipeline::context::Context;
use crate::state::{Pause, StreamRow, WalkRow};

/// What to do where the configuration names another database than the table is of.
const OTHER_DATABASE: &str = "if that is a slip, set it back; if it is meant, `tidemark resync \
                              STREAM --reason TEXT --execute` makes the table the new database's";

/// What is done about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) enum Decision {
    GoOn,
    /// What its rows are of is to be remembered.
    Bind,
    Walk {
        reason: Reason,
        why: String,
        /// Something was missed, or may have been.
        is_blind: bool,
        /// Rows may lack what their hashes say they hold.
        by_content: bool,
    },
    Park(Fault),
    /// A person told it to stop for a while.
    Pause(Pause),
}

impl Decision {
    /// Whether it makes up for what was missed, or may have been.
    pub const fn repairs(&self) -> bool {
        matches!(self, Self::Walk { is_blind: true, .. })
    }

    /// Why a walk begins.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Walk { why, .. } => Some(why),
            Self::GoOn | Self::Bind | Self::Park(_) | Self::Pause(_) => None,
        }
    }
}

/// What is known of a stream before it is looked at.
pub(in crate::pipeline) struct Known<'a> {
    pub row: Option<&'a StreamRow>,
    /// The row of the stream that its collection and table were, if that is configured no more.
    pub before: Option<&'a StreamRow>,
    /// The row of the stream that its table was of, whatever that followed.
    pub in_its_place: Option<&'a StreamRow>,
    /// Streams are in other groups.
    pub has_others: bool,
    pub walk: Option<&'a WalkRow>,
    pub begins: &'a Begins,
    /// What ended the pipeline before, if it is the position or the collection that is at fault.
    pub trouble: Option<&'a Fault>,
    /// The source's time before any of the group's collections was looked at.
    pub now: ClusterTime,
}

impl Known<'_> {
    /// Why the stream is not followed by this group: another one has not let it go.
    pub fn in_another_group(&self, group: &str) -> Option<Fault> {
        let row = self.before.or(self.row)?;
        let (message, hint) = match &row.group {
            Some(other) if other == group => return None,
            None if self.before.is_some() => return None,
            Some(other) => (
                format!("it is in group {other}, which has not let it go"),
                "it goes over once that group is led with a configuration without it",
            ),
            None => (
                "it is led by another service or environment, which has not ended".to_owned(),
                "it goes over once that one has ended",
            ),
        };
        Some(Fault::new(Class::Halt, Code::StreamParked, message, hint))
    }

    /// # Errors
    /// What the stream brings with it is another source's, or of before this one was taken back.
    pub fn is_this_source(&self, stream: &str) -> Result<(), Fault> {
        let mut foreign = self.begins.foreign.iter();
        foreign.find(|(of, _)| of == stream).map_or(Ok(()), |(_, fault)| Err(fault.clone()))
    }

    /// Whether what the stream brings with it can be gone on from; `None` if it brings nothing.
    fn own_position(&self, stream: &str) -> Option<bool> {
        let own = self.begins.own.iter().find(|(own, _)| own.stream == stream);
        own.map(|(_, is_usable)| *is_usable)
    }

    /// Why the rows have to be made anew, if what makes them is another mapping by now. Rows of a
    /// release that did not say what made them are taken as they are, but for what their table
    /// lacked.
    fn mapping_changed(&self, now: &MappingDigest) -> Option<String> {
        self.row.and_then(StreamRow::mapping).and_then(|before| now.since(&before).why())
    }

    /// Up to which time all is applied, or will be by a walk: no change to come is older.
    pub fn applied_until(&self) -> ClusterTime {
        let position = self.begins.position.as_ref();
        position.map_or(self.now, |position| position.cluster_time.min(self.now))
    }

    /// Whether versions of the stream's rows begin to be kept: there may be some of a time before,
    /// and rows that went and came since.
    pub fn begins_versions(&self, now: &MappingDigest, decision: &Decision) -> bool {
        let kept = |row: &StreamRow| row.mapping().is_some_and(|before| before.versions);
        now.versions
            && match decision {
                Decision::Bind => !self.row.is_some_and(kept),
                Decision::Walk { reason, .. } => *reason == Reason::FirstSnapshot,
                Decision::GoOn | Decision::Park(_) | Decision::Pause(_) => false,
            }
    }

    /// The collection that its rows are of, if another is configured now.
    fn other_collection(&self, configured: &str) -> Option<&str> {
        let of_rows = self.row.filter(|row| row.binding().is_some())?.collection.as_deref();
        of_rows.filter(|collection| *collection != configured)
    }

    fn parked_code(&self) -> Option<Code> {
        self.row.and_then(|row| row.parked_code.as_deref()).and_then(Code::parse)
    }
}

/// Decides, given what is found at both ends.
///
/// # Errors
/// It cannot be followed, and why.
pub(super) async fn decide(
    context: &Context,
    here: &Here,
    known: &Known<'_>,
) -> Result<Decision, Fault> {
    let other_collection = known.other_collection(&context.config.collection);
    let mut binding = known.row.and_then(StreamRow::binding);
    if let (Some(bound), Some(_)) = (&mut binding, other_collection) {
        bound.collection_uuid = None;
    }
    let walks = known.walk.is_some_and(|walk| !walk.is_snapshot());
    let dropped = known.trouble.is_some_and(|fault| fault.code == Code::SourceDropped)
        || known.parked_code() == Some(Code::SourceDropped);
    let verdict = judge(binding.as_ref(), here, &context.table, dropped, walks);
    halt_on(context, &verdict).map_err(|fault| of_other_database(known, fault))?;
    let own = known.own_position(&context.config.name);
    let left = known.row.is_some_and(|row| row.left_at.is_some());
    let (reason, why) = if binding.is_none() && own.is_none() {
        if !here.table.holds_rows {
            return Ok(filled_first(context, here));
        }
        if let Some(before) = known.before.or(known.in_its_place) {
            return Ok(made_anew(
                context,
                format!("its table was that of stream {}", before.stream),
            ));
        }
        let why = "no position is stored for this stream, though its table holds rows";
        (Reason::PositionMissing, why.to_owned())
    } else if verdict == BindingVerdict::TableFresh {
        return Ok(filled_first(context, here));
    } else if let Some(why) = configured_anew(context, other_collection, &verdict) {
        return Ok(made_anew(context, why));
    } else if let Some((reason, why)) = unusable(&verdict, known, here, own) {
        (reason, why)
    } else if own == Some(false) {
        let why = "the stream's position is older than the source's history, or cannot be read";
        (Reason::HistoryLost, why.to_owned())
    } else if binding.is_none() {
        // The first release did not bind its positions.
        if here.table.holds_rows || context.source.estimate(&context.config.collection).await? == 0
        {
            // Nor did it remember a mapping: what its table lacked is all that is known of it.
            let lacked = known.mapping_changed(context.mapping.digest());
            return Ok(lacked.map_or(Decision::Bind, |why| made_anew(context, why)));
        }
        (Reason::TableReplaced, "the table is empty, and the collection is not".to_owned())
    } else if let Some(why) = known.mapping_changed(context.mapping.digest()) {
        return Ok(made_anew(context, why));
    } else if verdict == BindingVerdict::Known
        || left
        || known.row.and_then(StreamRow::mapping).as_ref() != Some(context.mapping.digest())
    {
        return Ok(Decision::Bind);
    } else {
        return Ok(Decision::GoOn);
    };
    allowed(context, reason, &why).await?;
    tracing::error!(
        stream = context.config.name,
        reason = reason.name(),
        "the table cannot be gone on with, it is healed by a resync: {why}"
    );
    // It makes up for what the table lacks, too.
    let by_content = known.mapping_changed(context.mapping.digest()).is_some();
    Ok(Decision::Walk { reason, why, is_blind: true, by_content })
}

/// What is said of a collection that is not there, if it is looked for in another database.
fn of_other_database(known: &Known<'_>, fault: Fault) -> Fault {
    match &known.begins.lost {
        Some((Reason::PositionForeign, why)) if fault.code == Code::SourceDropped => {
            let message = format!("{}: {why}", fault.message);
            Fault { message, hint: OTHER_DATABASE, ..fault }
        }
        _ => fault,
    }
}

/// Why the rows are of something else than is configured by now: that is meant, and nobody's loss.
fn configured_anew(
    context: &Context,
    other_collection: Option<&str>,
    verdict: &BindingVerdict,
) -> Option<String> {
    let Context { config, table, .. } = context;
    if let Some(before) = other_collection {
        let now = &config.collection;
        return Some(format!("collection {now} is followed now, its rows are of {before}"));
    }
    (*verdict == BindingVerdict::TableAnother)
        .then(|| format!("table {table} is configured now, and holds rows of before"))
}

/// The walk of a mapping that is another, or of a table that lacked a part of it.
fn made_anew(context: &Context, why: String) -> Decision {
    tracing::warn!(stream = context.config.name, "the table is made anew by a walk: {why}");
    let reason = Reason::MappingChanged;
    Decision::Walk { reason, why, is_blind: false, by_content: true }
}

/// The first snapshot of an empty table, which deletes nothing. Of elements whose rows it had once
/// some may be of documents that are gone.
fn filled_first(context: &Context, here: &Here) -> Decision {
    if here.table.holds_orphans {
        return made_anew(context, "tables of its arrays hold rows of before".to_owned());
    }
    let (reason, why) = (Reason::FirstSnapshot, "first snapshot".to_owned());
    Decision::Walk { reason, why, is_blind: false, by_content: false }
}

/// Why a table that was followed cannot be gone on with from the group's position.
fn unusable(
    verdict: &BindingVerdict,
    known: &Known<'_>,
    here: &Here,
    own: Option<bool>,
) -> Option<(Reason, String)> {
    // That another collection goes by its name is then no wonder.
    if let Some((Reason::PositionForeign, why)) = &known.begins.lost {
        return Some((Reason::PositionForeign, why.clone()));
    }
    match verdict {
        BindingVerdict::Recreated(why) => {
            return Some((Reason::CollectionRecreated, (*why).to_owned()));
        }
        BindingVerdict::TableReplaced(why) => {
            return Some((Reason::TableReplaced, (*why).to_owned()));
        }
        _ => {}
    }
    if let Some(fault) = known.trouble.filter(|fault| fault.code == Code::SourceDropped) {
        return Some((Reason::CollectionRecreated, fault.message.clone()));
    }
    if let Some((reason, why)) = &known.begins.lost {
        return Some((*reason, why.clone()));
    }
    let row = known.row?;
    if row.left_at.is_some() && own != Some(true) {
        return Some((Reason::Rejoined, "the stream was not followed for a while".to_owned()));
    }
    match known.parked_code() {
        Some(Code::SourceDropped) => {
            let why = "the collection was dropped or renamed, and is there again";
            return Some((Reason::CollectionRecreated, why.to_owned()));
        }
        Some(Code::HistoryLost) => {
            return Some((Reason::HistoryLost, row.parked_reason.clone().unwrap_or_default()));
        }
        Some(_) if let Some(pause) = row.pause() => {
            return Some((Reason::Paused, format!("the stream was {pause}")));
        }
        Some(_) => {
            return Some((Reason::Parked, "the group went on without the stream".to_owned()));
        }
        None => {}
    }
    if !known.begins.is_stored && own.is_none() {
        let why = "no position is stored for this group, though its tables were followed";
        return Some((Reason::PositionMissing, why.to_owned()));
    }
    let walked = known.walk.and_then(|walk| walk.collection_uuid).zip(here.found.uuid());
    let why = "the collection that was walked is another one now";
    walked
        .is_some_and(|(walked, found)| walked != found)
        .then_some((Reason::CollectionRecreated, why.to_owned()))
}

/// Whether a resync that nobody asked for may begin.
///
/// # Errors
/// It may not, and a person has to ask for it.
pub(in crate::pipeline) async fn allowed(
    context: &Context,
    reason: Reason,
    why: &str,
) -> Result<(), Fault> {
    let settings = &context.settings.resync;
    let halt = |message: String| {
        let hint = if reason == Reason::PositionForeign {
            OTHER_DATABASE
        } else {
            "look into why; then `tidemark resync STREAM --reason TEXT --execute` repairs this \
             stream"
        };
        let code = if reason == Reason::CollectionRecreated {
            Code::SourceDropped
        } else {
            Code::HistoryLost
        };
        Err(Fault::new(Class::Halt, code, message, hint))
    };
    // Who paused a stream was told that it is repaired when it goes on.
    if !settings.automatic && reason != Reason::Paused {
        return halt(format!("{why}; resync.automatic is off"));
    }
    if !reason.is_counted() {
        return Ok(());
    }
    let today = context.state.automatic_today(&context.config.name).await?;
    if today >= settings.automatic_per_day_max {
        return halt(format!(
            "{why}; {today} automatic resyncs in 24 hours are all that \
             resync.automatic_per_day_max allows"
        ));
    }
    Ok(())
}
