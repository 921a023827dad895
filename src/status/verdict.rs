//! The verdict on the streams and the open incidents, and what a person must do. Pure.

use std::collections::BTreeMap;

use super::report::{IncidentReport, Verdict};
use super::stream_report::{ComparedReport, StreamReport};
use crate::error::{Code, Severity, rules};
use crate::model::history_window::Headroom;
use crate::model::phase::Phase;
use crate::model::resync_state::ResyncState;

/// The verdict on the streams and the open incidents, and what a person must do. A process that is
/// not ready, for the reasons that it gives to whoever asks that, is not healthy either. Pure.
pub fn judge(
    streams: &[StreamReport],
    incidents: &[IncidentReport],
    unready: &[String],
) -> (Verdict, Option<String>) {
    let (of_streams, action) = judge_streams(streams);
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

fn judge_streams(streams: &[StreamReport]) -> (Verdict, Option<String>) {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for stream in streams {
        *sizes.entry(&stream.group).or_default() += 1;
    }
    let mut verdict = Verdict::Healthy;
    let mut action = None;
    for stream in streams {
        let is_many = sizes.get(stream.group.as_str()).is_some_and(|number| *number > 1);
        let (of_stream, wanted) = judge_one(stream, is_many && !stream.group.is_empty());
        if of_stream > verdict {
            verdict = of_stream;
            action = wanted;
        }
    }
    (verdict, action)
}

/// `is_many`: its group has other streams, and is named for what is the group's.
fn judge_one(stream: &StreamReport, is_many: bool) -> (Verdict, Option<String>) {
    let reason = || stream.reason.clone().unwrap_or_default();
    let name = &stream.name;
    let of_group =
        if is_many { format!("group {}", stream.group) } else { format!("stream {name}") };
    let stopped = stream.halt_code.as_deref().and_then(Code::parse);
    if stream.phase == Phase::Halted {
        let what = format!("{of_group} is halted: {}", reason());
        let to_do = |code| to_do(&what, code, (!is_many).then_some(name.as_str()), None);
        return (Verdict::Critical, Some(stopped.map_or_else(|| what.clone(), to_do)));
    }
    if stream.phase == Phase::Parked {
        let what = format!("stream {name} is parked: {}", reason());
        let code = stopped.unwrap_or(Code::StreamParked);
        let verdict = Verdict::of(rules::of(code).severity);
        return (verdict, Some(to_do(&what, code, Some(name), None)));
    }
    let expiring = stream.headroom().and_then(Headroom::severity);
    if expiring == Some(Severity::Critical) {
        let what = format!("{of_group} is about to lose its history");
        return (Verdict::Critical, Some(to_do(&what, Code::HistoryExpiring, None, None)));
    }
    if let Some(held) = stream.resync.as_ref().filter(|walk| walk.state == ResyncState::Held) {
        let (id, why) = (held.id, held.note.as_deref().unwrap_or_default());
        let what = format!("resync {id} of stream {name} waits for a person: {why}");
        let code = held.held_code.as_deref().and_then(Code::parse).unwrap_or(Code::ResyncHeld);
        return (Verdict::Critical, Some(to_do(&what, code, Some(name), Some(id))));
    }
    if let Some(since) = stream.unconfirmed_since {
        let since = since.format("%Y-%m-%d %H:%M:%S UTC");
        let what = format!("the source of {of_group} confirms nothing since {since}");
        return (Verdict::Degraded, Some(to_do(&what, Code::SourceLagging, None, None)));
    }
    if stream.retrying > 0 {
        return (Verdict::Degraded, Some(format!("stream {name} keeps trying: {}", reason())));
    }
    if expiring.is_some() {
        let what = format!("{of_group} has used half of its history");
        return (Verdict::Degraded, Some(to_do(&what, Code::HistoryExpiring, None, None)));
    }
    let differences = stream.compared.as_ref().map_or(0, ComparedReport::differences);
    if differences > 0 {
        let what =
            format!("{differences} documents of stream {name} differ between source and table");
        return (Verdict::Degraded, Some(to_do(&what, Code::DivergenceFound, Some(name), None)));
    }
    if stream.dead_letters > 0 {
        let what = format!("stream {name} has set events aside");
        return (Verdict::Degraded, Some(to_do(&what, Code::DeadLetters, Some(name), None)));
    }
    (Verdict::Healthy, None)
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

    pub fn stream() -> StreamReport {
        StreamReport {
            phase: Phase::Streaming,
            history_window_seconds: Some(86_400.0),
            headroom_seconds: Some(86_000.0),
            ..StreamReport::new("doctor", "revalidation.doctorsForDB", "public.doctor")
        }
    }

    #[test]
    fn what_is_a_groups_is_said_of_the_group_and_a_parked_stream_is_as_bad_as_its_cause() {
        let judged = |change: fn(&mut StreamReport)| {
            let mut streams =
                [stream(), StreamReport { name: "recommendation".into(), ..stream() }];
            for stream in &mut streams {
                stream.group = "main".to_owned();
            }
            change(&mut streams[1]);
            judge(&streams, &[], &[])
        };
        let (verdict, action) = judged(|s| {
            (s.phase, s.reason) = (Phase::Halted, Some("no rights".into()));
            s.halt_code = Some(Code::SourceUnauthorised.name().to_owned());
        });
        assert_eq!(verdict, Verdict::Critical);
        assert!(action.unwrap().starts_with("group main is halted: no rights. "));
        let parked = |code: Code| {
            let mut one = stream();
            (one.phase, one.reason) = (Phase::Parked, Some("why".into()));
            one.halt_code = Some(code.name().to_owned());
            judge(&[one], &[], &[])
        };
        let (verdict, action) = parked(Code::SourceDropped);
        assert_eq!(verdict, Verdict::Critical);
        assert!(action.unwrap().starts_with("stream doctor is parked: why. Bring the collection"));
        assert_eq!(parked(Code::StreamParked).0, Verdict::Degraded);
    }

    #[test]
    fn the_worst_stream_decides_the_verdict_and_the_action() {
        let judged = |change: fn(&mut StreamReport)| {
            let mut changed = stream();
            change(&mut changed);
            judge(&[stream(), changed], &[], &[])
        };
        assert_eq!(judged(|_| {}), (Verdict::Healthy, None));
        assert_eq!(judged(|s| s.retrying = 3).0, Verdict::Degraded);
        assert_eq!(judged(|s| s.unconfirmed_since = Some(Utc::now())).0, Verdict::Degraded);
        assert_eq!(judged(|s| s.headroom_seconds = Some(40_000.0)).0, Verdict::Degraded);
        assert_eq!(judged(|s| s.headroom_seconds = Some(20_000.0)).0, Verdict::Critical);
        assert_eq!(judged(|s| s.headroom_seconds = None), (Verdict::Healthy, None));
        let unready = ["the target does not answer".to_owned()];
        let (verdict, action) = judge(&[stream()], &[], &unready);
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
