//! Whether a reply ends between two cluster times: all that a source transaction changed carries
//! one, and is to be taken whole.

use super::change_stream::ChangeStreamOptions;
use super::{Reply, Source};
use crate::error::Fault;
use crate::model::event::Event;
use crate::model::position::ResumeToken;

impl Reply {
    /// Whether more of the cluster time of the last event may follow; `None` if the reply itself
    /// does not tell.
    fn is_open(&self, shares_times: bool) -> Option<bool> {
        let last = self.len().checked_sub(1)?;
        let Ok(event) = Event::parse(self.item(last)) else { return Some(false) };
        // The server has read past it.
        let read_to = self.token.as_ref().and_then(ResumeToken::cluster_time);
        if read_to.is_some_and(|read_to| read_to > event.cluster_time) {
            return Some(false);
        }
        (!event.in_transaction && !shares_times).then_some(false)
    }
}

impl Source {
    /// Whether more of the cluster time of a reply's last event may follow. Where the reply does
    /// not tell, the source is asked for what comes next, which it answers at once.
    ///
    /// # Errors
    /// Whatever the source answers.
    pub async fn is_open(
        &self,
        options: &ChangeStreamOptions,
        reply: &Reply,
    ) -> Result<bool, Fault> {
        if reply.is_empty() {
            return Ok(false);
        }
        if let Some(is_open) = reply.is_open(self.shares_times()) {
            return Ok(is_open);
        }
        let last = Event::parse(reply.item(reply.len() - 1)).ok();
        let Some((token, at)) =
            last.and_then(|event| Some((event.token().ok()?, event.cluster_time)))
        else {
            return Ok(false);
        };
        let next = self.next_after(options, &token).await?;
        let next = (!next.is_empty()).then(|| Event::parse(next.item(0)).ok()).flatten();
        Ok(next.is_some_and(|next| next.cluster_time == at))
    }

    /// The next event after a token, if there is one by now.
    async fn next_after(
        &self,
        options: &ChangeStreamOptions,
        token: &ResumeToken,
    ) -> Result<Reply, Fault> {
        let options = ChangeStreamOptions { keys_only: true, batch_size: 1, ..options.clone() };
        self.open_at_once(&options, token).await?.next().await
    }
}
