//! A person says that a source is meant, though it is another one, or was taken back, and that the
//! tables are this daemon's.

use super::{Answered, Asked};
use crate::error::Fault;
use crate::model::reason::Reason;
use crate::pipeline::binding::{followed, foreign, place};
use crate::pipeline::context::Context;
use crate::pipeline::start::{blind_from, position_now};
use crate::source::Found;
use crate::state::{Beginning, Changes, StreamRow};

impl Asked<'_> {
    /// A resync. Of a source that is another one, or was taken back, of all streams of the group,
    /// from a new position.
    pub(super) async fn adopt(&self, context: &Context, why: &str) -> Result<Answered, Fault> {
        let (group, command) = (self.group, self.command);
        let asks = |name| command.arguments.get(name).and_then(serde_json::Value::as_str);
        let owner = group.target.owner();
        let asked = (asks("service"), asks("environment"));
        if asked != (Some(&owner.service), Some(&owner.environment)) {
            return self.refuse(format!("the stream is led by {owner}, which has not ended")).await;
        }
        let stored = self.stored().await?;
        let rows = group.state.streams().await?;
        let asked = rows.iter().find(|row| row.stream == command.stream);
        if let Some(pause) = asked.and_then(StreamRow::pause_in_force) {
            return self.refuse(pause.in_the_way()).await;
        }
        let place = place(group, &stored).await?;
        let is_foreign = foreign(followed(&rows, group), group, &place).is_some();
        let mut found = Vec::new();
        for stream in group.streams.iter() {
            let row = rows.iter().find(|row| row.stream == stream.config.name);
            let is_bound =
                row.is_some_and(|row| row.binding().is_some() && !row.is_elsewhere(&group.name));
            if stream.place != context.place && !(is_foreign && is_bound) {
                continue;
            }
            let here = place.of(stream, row).await?;
            if !matches!(here.found, Found::Collection(_)) {
                let why = format!("there is no collection {} at this source", stream.namespace);
                return self.refuse(why).await;
            }
            found.push((stream, row, here));
        }
        let position = position_now(group).await?.0;
        let is_new = is_foreign || !group.parks() || stored.resume_token.is_none();
        let mut changes = Changes::default();
        for (stream, row, here) in &found {
            // The group is halted, or ends for this request: nobody else writes it meanwhile.
            group.state.void_times(self.lease, &stream.table, position.cluster_time).await?;
            let is_paused = row.is_some_and(|row| row.pause_in_force().is_some());
            let walk = Beginning {
                stream: &stream.config.name,
                reason: Reason::SourceAdopted,
                why,
                start_time: position.cluster_time,
                blind_from: if is_paused { None } else { blind_from(&stored, *row) },
                documents_estimated: stream.source.estimate(&stream.config.collection).await.ok(),
                by_content: !Reason::SourceAdopted.is_automatic(),
                bound: here.bound(stream),
            };
            // A neighbour that is paused stays so, and is what it was but for its source: what is
            // configured anew meanwhile is met when the pause is over, too.
            let walks = if is_paused { &mut changes.put_off } else { &mut changes.walks };
            walks.push(walk);
        }
        self.begin(Some(&position).filter(|_| is_new), changes, why).await
    }
}
