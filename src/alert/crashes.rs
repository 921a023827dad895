//! Which of the processes before this one have died, told from the table `process`.

use std::path::Path;

use uuid::Uuid;

use crate::alert::incident::Store;
use crate::error::Fault;
use crate::state::ProcessRow;

/// A process that has not registered again for so long has died, or cannot reach Postgres.
const SILENT_SECONDS: f64 = 15.0;

/// The same for a process with this one's own name, which is most likely the same container before
/// it was started again.
const SILENT_NAMESAKE_SECONDS: f64 = 5.0;

/// This process, among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Host and number, for people.
    pub holder: String,
    /// Where its number can be looked up: host and process namespace; `None` where that cannot be
    /// told.
    place: Option<String>,
}

impl Process {
    pub fn new(holder: &str) -> Self {
        let host = holder.rsplit_once('/').map_or(holder, |(host, _)| host);
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
        let place = namespace.map(|namespace| format!("{host} {}", namespace.display()));
        Self { holder: holder.to_owned(), place }
    }
}

/// `runs` tells of a number whether a process of this place has it now.
fn is_dead(other: &ProcessRow, me: &Process, runs: impl Fn(&str) -> bool) -> bool {
    let number = other.holder.rsplit('/').next().unwrap_or_default();
    if other.silent > SILENT_SECONDS {
        true
    } else if other.holder == me.holder {
        other.silent > SILENT_NAMESAKE_SECONDS
    } else {
        other.place.is_some() && other.place == me.place && !runs(number)
    }
}

impl Store {
    /// Processes of this service and environment begun in the last ten minutes that have ended
    /// without saying so.
    pub async fn dead(&self, me: &Process) -> Result<Vec<Uuid>, Fault> {
        let mut others = self.state().other_processes(self.process()).await?;
        let runs = |number: &str| Path::new("/proc").join(number).exists();
        others.retain(|other| is_dead(other, me, runs));
        Ok(others.into_iter().map(|other| other.id).collect())
    }

    /// Registers that this process runs.
    pub async fn register(&self, me: &Process) -> Result<(), Fault> {
        let place = me.place.as_deref();
        self.state().register_process(self.process(), &me.holder, place, crate::VERSION).await
    }

    /// Notes that this process ends because it was told to, and so has not died.
    pub async fn ends(&self) {
        let _ = self.state().end_process(self.process()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_of_this_place_are_known_at_once_and_those_of_others_by_their_silence() {
        let here = Some("a 1".to_owned());
        let me = Process { holder: "a/7".into(), place: here.clone() };
        let dead = |holder: &str, place: Option<&str>, silent| {
            let other = ProcessRow {
                id: Uuid::nil(),
                holder: holder.into(),
                place: place.map(str::to_owned),
                silent,
            };
            is_dead(&other, &me, |number| number == "9")
        };
        assert!(dead("a/8", Some("a 1"), 0.1), "its number is no process's any more");
        assert!(!dead("a/9", Some("a 1"), 14.0), "it runs");
        assert!(!dead("a/8", Some("a 2"), 14.0), "the number is of another place");
        assert!(!dead("b/8", None, 14.0) && dead("b/8", None, 16.0), "another host");
        assert!(
            !dead("a/7", Some("a 2"), 2.0) && dead("a/7", Some("a 2"), 6.0),
            "the container before this one"
        );
        assert!(dead("a/9", Some("a 1"), 16.0), "it runs, but is of no use");
    }
}
