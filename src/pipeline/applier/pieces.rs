//! What the source committed at one time and is too large for a batch: piece by piece into one open
//! transaction, so that it lands whole or not at all.

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::parking::leave_parked_out;
use super::tell::tell_one;
use super::{Applier, Batches, Stopped, Turn, follows};
use crate::apply::{Applied, Commit, Setback};
use crate::batch::Piece;
use crate::error::{Code, Fault};
use crate::model::position::{ClusterTime, ResumeToken};
use crate::model::step::Step;
use crate::pipeline::context::GroupContext;
use crate::pipeline::encoder::OfStream;
use crate::pipeline::preparer::Batch;
use crate::pipeline::walks::OpenWalks;
use crate::retry::Backoff;

/// Sends pieces into the transaction, and keeps what is told of them once it is committed.
struct Sender<'s> {
    group: &'s GroupContext,
    parked: &'s [Option<Code>],
    taken: &'s mut ResumeToken,
    walks: &'s mut OpenWalks,
    told: Vec<OfStream>,
    /// The last piece's, without its works.
    end: Commit,
    /// By stream: of which time its rows may be.
    ahead: Vec<(usize, ClusterTime)>,
    last_event: Option<ClusterTime>,
}

impl Sender<'_> {
    async fn send(
        &mut self,
        first: Batch,
        batches: &mut Batches,
        pieces: mpsc::Sender<Commit>,
    ) -> Result<(), Fault> {
        let mut batch = first;
        loop {
            follows(self.taken, &batch)?;
            leave_parked_out(self.group, self.parked, &mut batch);
            self.walks.stand_beside(&mut batch.commit);
            self.end.parked.append(&mut batch.stops);
            self.last_event = self.last_event.max(batch.last_event);
            self.keep(batch.told);
            self.walks.touch(&batch.commit);
            let ahead = batch.commit.works.iter();
            self.ahead.extend(ahead.filter_map(|work| Some((work.stream, work.ahead?))));
            let ended = batch.piece == Piece::Last;
            if ended {
                self.end.position.clone_from(&batch.commit.position);
                batch.commit.parked.clone_from(&self.end.parked);
            }
            // Where the writer takes no more pieces it has failed, and its result says why.
            if pieces.send(batch.commit).await.is_err() || ended {
                return Ok(());
            }
            let next = batches.recv().await;
            batch = next.unwrap_or_else(|| Err(Fault::bug("the preparer ended without a word")))?;
        }
    }

    fn keep(&mut self, told: Vec<OfStream>) {
        for told in told {
            match self.told.iter_mut().find(|known| known.stream == told.stream) {
                Some(known) => known.add(told),
                None => self.told.push(told),
            }
        }
    }
}

impl Applier<'_> {
    /// Commits the pieces that begin with this one. Nothing is kept to try again with: after a
    /// failure the group is taken up anew from the stored position.
    pub(super) async fn pieces(
        &mut self,
        first: Batch,
        batches: &mut Batches,
    ) -> Result<(), Stopped> {
        self.turn = Turn::Walk;
        tracing::info!(
            group = self.lease.group(),
            "a transaction of the source is larger than a batch: it is written piece by piece"
        );
        let begun = Instant::now();
        let (to_writer, pieces) = mpsc::channel(1);
        let mut sender = Sender {
            group: self.group,
            parked: &self.parked,
            taken: &mut self.taken,
            walks: &mut self.walks,
            told: Vec::new(),
            end: Commit::default(),
            ahead: Vec::new(),
            last_event: None,
        };
        let writing = async {
            tokio::join!(self.writer.apply_pieces(pieces), sender.send(first, batches, to_writer))
        };
        let (written, sent) = tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => {
                return Err(Fault::fenced(self.lease.group()).into());
            }
            both = writing => both,
        };
        let Sender { told, end, ahead, last_event, .. } = sender;
        sent?;
        let applied = match written {
            Ok(applied) => applied,
            Err(setback) => return Err(self.set_back(setback).await),
        };
        for (stream, until) in ahead {
            self.ahead_until(stream, until);
        }
        self.idle = None;
        self.walks.passed(last_event);
        self.landed(&end).await;
        let none = Applied::default();
        let events = told.iter().flat_map(|told| told.received).sum();
        if let Some(position) = &end.position {
            self.group.status.positioned(position, events, begun.elapsed());
            self.reached.send_replace(position.cluster_time);
        }
        for told in &told {
            if let Some(context) = self.group.streams.get(told.stream) {
                let applied = applied.get(told.stream).unwrap_or(&none);
                tell_one(context, told, applied, begun.elapsed());
            }
        }
        Ok(())
    }

    /// What becomes of the group after pieces could not be committed.
    async fn set_back(&mut self, setback: Setback) -> Stopped {
        let Setback { stream, fault, .. } = setback;
        self.group.status.commit_failed(&fault);
        if let Some(stream) = stream.filter(|stream| self.may_park(*stream, &fault)) {
            return self.park_alone(stream, fault).await.err().map_or(Stopped::Again, Stopped::By);
        }
        let mut backoff = Backoff::new(self.group.settings.retry);
        let waited = tokio::select! {
            biased;
            () = self.signals.end(), if fault.class.may_retry() => Err(self.gave_up(fault)),
            waited = self.group.wait_or_give_up(Step::Apply, &mut backoff, fault.clone()) => waited,
        };
        waited.err().map_or(Stopped::Again, Stopped::By)
    }
}
