//! Reports that another release has written, read as far as this one knows their words: processes
//! of two releases run side by side while one takes the other's place.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::phase::Phase;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::step::Step;

pub fn phase<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
    String::deserialize(deserializer).map(|word| Phase::stored(&word))
}

pub fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
    String::deserialize(deserializer).map(|word| Reason::stored(&word))
}

/// Of one that is unknown here nobody is told that it waits for a person.
pub fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ResyncState, D::Error> {
    let word = String::deserialize(deserializer)?;
    Ok(ResyncState::parse(&word).unwrap_or(ResyncState::Running))
}

/// The items that can be read; those of kinds unknown here are left out.
pub fn known<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let items = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// Steps that fail. One of a kind unknown here is one all the same: it has a code.
pub fn failing<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let mut items = Vec::<serde_json::Value>::deserialize(deserializer)?;
    for item in &mut items {
        let step = item.get_mut("step");
        if let Some(step) = step.filter(|step| step.as_str().and_then(Step::parse).is_none()) {
            *step = Step::Open.name().into();
        }
    }
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// Numbers by code; those of codes unknown here are left out.
pub fn counts<'de, D>(deserializer: D) -> Result<BTreeMap<DeadLetterCode, u64>, D::Error>
where
    D: Deserializer<'de>,
{
    let counts = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let known = |(code, number): (String, u64)| Some((DeadLetterCode::parse(&code)?, number));
    Ok(counts.into_iter().filter_map(known).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::status::StreamReport;

    #[test]
    fn a_newer_releases_report_is_read_as_far_as_its_words_are_known() {
        let mut report = serde_json::to_value(StreamReport::new("s", "db.c", "public.t")).unwrap();
        let failing = |step: &str| {
            json!({ "step": step, "code": "source_unreachable", "since": "2026-11-22T10:14:50Z",
                "attempts": 1, "reason": "no answer" })
        };
        let newer = json!({
            "phase": "levitating", "failing": [failing("relay"), failing("read")],
            "dead_letters_by_code": { "masked": 1, "slow": 2 },
            "resync": { "id": 1, "reason": "cosmic_ray", "state": "queued", "documents_read": 1,
                "rows_upserted": 0, "rows_deleted": 0, "started_at": "2026-11-22T10:14:50Z" },
        });
        report.as_object_mut().unwrap().extend(newer.as_object().unwrap().clone());
        let read: StreamReport = serde_json::from_value(report).unwrap();
        assert_eq!(read.phase, Phase::Resuming);
        assert_eq!(
            read.failing.iter().map(|failing| failing.step).collect::<Vec<_>>(),
            [Step::Open, Step::Read]
        );
        assert_eq!(read.dead_letters_by_code, [(DeadLetterCode::Slow, 2)].into());
        let walk = read.resync.unwrap();
        assert_eq!((walk.reason, walk.state), (Reason::Divergence, ResyncState::Running));
    }
}
