//! The verdict on the streams and the open incidents, and what a person must do. Pure.

use super::report::{ComparedReport, IncidentReport, StreamReport, Verdict};
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
    let mut verdict = Verdict::Healthy;
    let mut action = None;
    for stream in streams {
        let (of_stream, wanted) = judge_one(stream);
        if of_stream > verdict {
            verdict = of_stream;
            action = wanted;
        }
    }
    (verdict, action)
}

fn judge_one(stream: &StreamReport) -> (Verdict, Option<String>) {
    let reason = || stream.reason.clone().unwrap_or_default();
    let name = &stream.name;
    if stream.phase == Phase::Halted {
        let what = format!("stream {name} is halted: {}", reason());
        let code = stream.halt_code.as_deref().and_then(Code::parse);
        let action = code.map_or_else(|| what.clone(), |code| to_do(&what, code, stream));
        return (Verdict::Critical, Some(action));
    }
    let expiring = stream.headroom().and_then(Headroom::severity);
    if expiring == Some(Severity::Critical) {
        let what = format!("stream {name} is about to lose its history");
        return (Verdict::Critical, Some(to_do(&what, Code::HistoryExpiring, stream)));
    }
    if let Some(held) = stream.resync.as_ref().filter(|walk| walk.state == ResyncState::Held) {
        let (id, why) = (held.id, held.note.as_deref().unwrap_or_default());
        let what = format!("resync {id} of stream {name} waits for a person: {why}");
        let code = held.held_code.as_deref().and_then(Code::parse).unwrap_or(Code::ResyncHeld);
        return (Verdict::Critical, Some(to_do(&what, code, stream)));
    }
    if let Some(since) = stream.unconfirmed_since {
        let since = since.format("%Y-%m-%d %H:%M:%S UTC");
        let what = format!("the source of stream {name} confirms nothing since {since}");
        return (Verdict::Degraded, Some(to_do(&what, Code::SourceLagging, stream)));
    }
    if stream.retrying > 0 {
        return (Verdict::Degraded, Some(format!("stream {name} keeps trying: {}", reason())));
    }
    if expiring.is_some() {
        let what = format!("stream {name} has used half of its history");
        return (Verdict::Degraded, Some(to_do(&what, Code::HistoryExpiring, stream)));
    }
    let differences = stream.compared.as_ref().map_or(0, ComparedReport::differences);
    if differences > 0 {
        let what =
            format!("{differences} documents of stream {name} differ between source and table");
        return (Verdict::Degraded, Some(to_do(&what, Code::DivergenceFound, stream)));
    }
    if stream.dead_letters > 0 {
        let what = format!("stream {name} has set events aside");
        return (Verdict::Degraded, Some(to_do(&what, Code::DeadLetters, stream)));
    }
    (Verdict::Healthy, None)
}

/// What is wrong with a stream, and what its rule says a person must do.
fn to_do(what: &str, code: Code, stream: &StreamReport) -> String {
    let resync = stream.resync.as_ref().map(|walk| walk.id);
    format!("{what}. {}", rules::of(code).to_do(Some(&stream.name), resync))
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
        let about = incident
            .stream
            .as_ref()
            .map_or_else(String::new, |stream| format!("stream {stream}: "));
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
