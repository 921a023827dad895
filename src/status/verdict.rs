//! The verdict on the streams and the open incidents, and what a person must do. Pure.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::concern::{Concern, Rank, SharedGroups, rank, stopped};
use super::group_report::GroupReport;
use super::report::{IncidentReport, Verdict};
use super::stream_report::{ComparedReport, StreamReport};
use crate::error::{Code, rules};

/// The verdict on the streams and the open incidents, and what a person must do. A process that is
/// not ready, for the reasons that it gives to whoever asks that, is not healthy either. Pure.
pub fn judge(
    groups: &[GroupReport],
    streams: &[StreamReport],
    incidents: &[IncidentReport],
    unready: &[String],
) -> (Verdict, Option<String>) {
    let (of_streams, action) = judge_streams(groups, streams);
    let (of_incidents, wanted) = judge_incidents(incidents);
    let verdict = of_streams.max(of_incidents);
    // The streams say it now, the incidents have it from a moment ago.
    let first = if of_incidents > of_streams { wanted } else { action.or(wanted) };
    match unready.first() {
        Some(reason) if verdict == Verdict::Healthy => {
            (Verdict::Degraded, Some(format!("not ready: {reason}")))
        }
        _ => (verdict, first),
    }
}

/// What of a stream, or a group, is to be said before all else.
struct Worst<'a> {
    rank: Rank,
    stream: Cow<'a, StreamReport>,
    /// Whether the stream stands for its group.
    is_group: bool,
}

fn judge_streams(groups: &[GroupReport], streams: &[StreamReport]) -> (Verdict, Option<String>) {
    let shared = SharedGroups::new(groups, streams);
    let of_groups = shared.groups().filter_map(|group| {
        let stream = group.as_stream();
        let rank = rank(&stream, None)?;
        Some(Worst { rank, stream: Cow::Owned(stream), is_group: true })
    });
    let of_streams = streams.iter().filter_map(|stream| {
        let rank = rank(stream, shared.of(stream))?;
        Some(Worst { rank, stream: Cow::Borrowed(stream), is_group: false })
    });
    let worst = of_groups.chain(of_streams).min_by_key(|worst| worst.rank);
    worst.map_or((Verdict::Healthy, None), |worst| {
        let (Reverse(verdict), concern) = worst.rank;
        (verdict, sentence(concern, &worst.stream, worst.is_group))
    })
}

/// What one stream is told to be by itself, and what a person must do about it.
pub fn judge_one(stream: &StreamReport) -> (Verdict, Option<String>) {
    Concern::of(stream, None).map_or((Verdict::Healthy, None), |concern| {
        (concern.verdict(stream), sentence(concern, stream, false))
    })
}

/// What is wrong, and what a person must do; `None` if it ends by itself.
fn sentence(concern: Concern, one: &StreamReport, is_group: bool) -> Option<String> {
    let name = &one.name;
    let subject = if is_group { format!("group {name}") } else { format!("stream {name}") };
    let stream = (!is_group).then_some(name.as_str());
    let reason = one.reason.as_deref().unwrap_or_default();
    let said = match concern {
        Concern::Halted => {
            let what = format!("{subject} is halted: {reason}");
            match one.halt_code.as_deref().and_then(Code::parse) {
                Some(code) => to_do(&what, code, stream, None),
                None => what,
            }
        }
        Concern::Parked => {
            to_do(&format!("{subject} is parked: {reason}"), stopped(one), stream, None)
        }
        Concern::Expiring => {
            let what = format!("{subject} is about to lose its history");
            to_do(&what, Code::HistoryExpiring, None, None)
        }
        Concern::Held => {
            let held = one.resync.as_ref()?;
            let (id, why) = (held.id, held.note.as_deref().unwrap_or_default());
            let what = format!("resync {id} of {subject} waits for a person: {why}");
            let code = held.held_code.as_deref().and_then(Code::parse).unwrap_or(Code::ResyncHeld);
            to_do(&what, code, stream, Some(id))
        }
        Concern::Unconfirmed => {
            let since = one.unconfirmed_since?.format("%Y-%m-%d %H:%M:%S UTC");
            let what = format!("the source of {subject} confirms nothing since {since}");
            to_do(&what, Code::SourceLagging, None, None)
        }
        Concern::Retrying => format!("{subject} keeps trying: {reason}"),
        Concern::HalfExpired => {
            let what = format!("{subject} has used half of its history");
            to_do(&what, Code::HistoryExpiring, None, None)
        }
        Concern::Differs => {
            let differences = one.compared.as_ref().map_or(0, ComparedReport::differences);
            let what =
                format!("{differences} documents of {subject} differ between source and table");
            to_do(&what, Code::DivergenceFound, stream, None)
        }
        Concern::DeadLetters => {
            to_do(&format!("{subject} has set events aside"), Code::DeadLetters, stream, None)
        }
        Concern::Paused => {
            let ends = format!("`tidemark resume {name} --reason TEXT --execute` ends it");
            format!("{subject} is {reason}; {ends}")
        }
        Concern::Walking | Concern::Queued | Concern::Drift => return None,
    };
    Some(said)
}

/// What is wrong, and what its rule says a person must do.
fn to_do(what: &str, code: Code, stream: Option<&str>, resync: Option<i64>) -> String {
    format!("{what}. {}", rules::of(code).to_do(stream, resync))
}

/// The verdict the open incidents call for, and what a person must do about the worst of them.
fn judge_incidents(incidents: &[IncidentReport]) -> (Verdict, Option<String>) {
    let verdict = |incident: &IncidentReport| Verdict::of(incident.severity);
    let worst = incidents.iter().map(verdict).max().unwrap_or(Verdict::Healthy);
    let wanted = incidents
        .iter()
        .filter(|incident| incident.action.is_some())
        .max_by_key(|incident| verdict(incident));
    let action = wanted.map(|incident| {
        let about = incident.stream.as_ref().map_or_else(String::new, |about| format!("{about}: "));
        format!("{about}{}; {}", incident.summary, incident.action.as_deref().unwrap_or_default())
    });
    (worst, action)
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::Utc;

    use super::*;
    use crate::model::phase::Phase;
    use crate::model::reason::Reason;
    use crate::model::resync_state::ResyncState;
    use crate::model::step::Step;
    use crate::status::stream_report::{FailingReport, ResyncReport};

    pub fn stream() -> StreamReport {
        StreamReport {
            phase: Phase::Streaming,
            history_window_seconds: Some(86_400.0),
            headroom_seconds: Some(86_000.0),
            ..StreamReport::new("doctor", "revalidation.doctorsForDB", "public.doctor")
        }
    }

    pub fn walk() -> ResyncReport {
        ResyncReport {
            id: 7,
            reason: Reason::HistoryLost,
            state: ResyncState::Running,
            documents_read: 0,
            rows_upserted: 0,
            rows_deleted: 0,
            queue_place: None,
            rows_to_delete: None,
            documents_estimated: None,
            held_code: None,
            note: None,
            started_at: Utc::now(),
            eta_at: None,
            deadline_at: None,
        }
    }

    #[test]
    fn what_is_a_groups_is_said_of_the_group_and_a_parked_stream_is_as_bad_as_its_cause() {
        let judged = |change: fn(&mut GroupReport)| {
            let mut main = GroupReport { phase: Phase::Streaming, ..GroupReport::new("main") };
            change(&mut main);
            let streams = ["doctor", "recommendation"]
                .map(|name| StreamReport { name: name.into(), ..stream() }.of_group(&main));
            judge(&[main], &streams, &[], &[])
        };
        assert_eq!(judged(|_| {}), (Verdict::Healthy, None));
        let (verdict, action) = judged(|main| {
            (main.phase, main.reason) = (Phase::Halted, Some("no rights".into()));
            main.halt_code = Some(Code::SourceUnauthorised.name().to_owned());
        });
        assert_eq!(verdict, Verdict::Critical);
        assert!(action.unwrap().starts_with("group main is halted: no rights. "));
        let (verdict, action) = judged(|main| {
            (main.history_window_seconds, main.headroom_seconds) = (Some(10.0), Some(4.0));
        });
        assert_eq!(verdict, Verdict::Degraded);
        assert!(action.unwrap().starts_with("group main has used half of its history. "));
        let (verdict, action) = judged(|main| {
            main.failing = vec![FailingReport {
                step: Step::Read,
                code: Code::SourceUnreachable.name().to_owned(),
                since: Utc::now(),
                attempts: 2,
                reason: "no answer".to_owned(),
            }];
        });
        assert_eq!(
            (verdict, action.unwrap().as_str()),
            (Verdict::Degraded, "group main keeps trying: read: no answer")
        );
        let parked = |code: Code| {
            let mut one = stream();
            (one.phase, one.reason) = (Phase::Parked, Some("why".into()));
            one.halt_code = Some(code.name().to_owned());
            judge(&[], &[one], &[], &[])
        };
        let (verdict, action) = parked(Code::SourceDropped);
        assert_eq!(verdict, Verdict::Critical);
        assert!(action.unwrap().starts_with("stream doctor is parked: why. Bring the collection"));
        assert_eq!(parked(Code::StreamParked).0, Verdict::Degraded);
        let mut one = stream();
        (one.phase, one.reason) = (Phase::Paused, Some("paused until noon by me: why".into()));
        let (verdict, action) = judge(&[], &[stream(), one], &[], &[]);
        assert_eq!(verdict, Verdict::Healthy, "whoever paused it knows");
        let action = action.unwrap();
        assert!(action.starts_with("stream doctor is paused until noon by me: why; "), "{action}");
    }

    #[test]
    fn the_worst_stream_decides_the_verdict_and_the_action() {
        let judged = |change: fn(&mut StreamReport)| {
            let mut changed = stream();
            change(&mut changed);
            judge(&[], &[stream(), changed], &[], &[])
        };
        assert_eq!(judged(|_| {}), (Verdict::Healthy, None));
        assert_eq!(judged(|s| s.retrying = 3).0, Verdict::Degraded);
        assert_eq!(judged(|s| s.unconfirmed_since = Some(Utc::now())).0, Verdict::Degraded);
        assert_eq!(judged(|s| s.headroom_seconds = Some(40_000.0)).0, Verdict::Degraded);
        assert_eq!(judged(|s| s.headroom_seconds = Some(20_000.0)).0, Verdict::Critical);
        assert_eq!(judged(|s| s.headroom_seconds = None), (Verdict::Healthy, None));
        let unready = ["the target does not answer".to_owned()];
        let (verdict, action) = judge(&[], &[stream()], &[], &unready);
        assert_eq!(
            (verdict, action.unwrap().as_str()),
            (Verdict::Degraded, "not ready: the target does not answer")
        );
        let (verdict, action) =
            judged(|s| (s.phase, s.reason) = (Phase::Halted, Some("dropped".into())));
        assert_eq!(
            (verdict, action.unwrap().as_str()),
            (Verdict::Critical, "stream doctor is halted: dropped")
        );
        let (_, action) = judged(|s| {
            (s.phase, s.reason) = (Phase::Halted, Some("no rights; grant them".into()));
            s.halt_code = Some(Code::TargetUnauthorised.name().to_owned());
        });
        let rule = rules::of(Code::TargetUnauthorised).to_do(Some("doctor"), None);
        assert_eq!(
            action.unwrap(),
            format!("stream doctor is halted: no rights; grant them. {rule}"),
            "the cause's own remedy, then what the notices say"
        );
    }
}
