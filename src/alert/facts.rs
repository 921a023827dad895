//! What the rules need that only Postgres knows.

use crate::alert::crashes::Process;
use crate::alert::incident::Store;
use crate::alert::incident::life::Gap;
use crate::alert::rule::observed::{Facts, KnownWalk};
use crate::error::Fault;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::state::EndedWalk;

impl From<EndedWalk> for KnownWalk {
    fn from(walk: EndedWalk) -> Self {
        let gap = Gap {
            resync: walk.id,
            blind_from: walk.blind_from,
            blind_until: walk.blind_until,
            rows_inserted: walk.rows_inserted,
            rows_changed: walk.rows_changed,
            rows_deleted: walk.rows_deleted,
        };
        let (reason, state) = (Reason::stored(&walk.reason), ResyncState::stored(&walk.state));
        Self { stream: walk.stream, reason, state, note: walk.note, lately: walk.lately, gap }
    }
}

impl Store {
    /// Reads what concerns this service and environment alone, since others may share these tables.
    /// First `snapshots` that have ended are told to Sentry's monitors, and to nobody else.
    pub async fn facts(&self, me: &Process, snapshots: bool) -> Result<Facts, Fault> {
        let state = self.state();
        let letters = state.open_letters().await?;
        let (failed, ended): (Vec<_>, Vec<_>) = state
            .ended_walks(snapshots)
            .await?
            .into_iter()
            .partition(|walk| walk.state == ResyncState::Failed.name());
        let unrepaired = state.unrepaired_walks().await?;
        let known = |walks: Vec<EndedWalk>| walks.into_iter().map(KnownWalk::from).collect();
        Ok(Facts {
            dead_letters: letters
                .into_iter()
                .map(|(stream, number)| (stream, u64::try_from(number).unwrap_or_default()))
                .collect(),
            ended: known(ended),
            failed: known(failed),
            unrepaired: known(unrepaired),
            crashes: crate::model::count(self.dead(me).await?.len()),
        })
    }
}
