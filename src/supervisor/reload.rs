//! Takes a changed configuration without a restart: all of it, or nothing, with the reasons.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::ops::{check, connection_strings};
use crate::service_manager;
use crate::settings::{Origin, Settings, StreamSettings};
use crate::state::{Command, Outcome, StateTables, Verb};

/// How often the table of requests is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Where the configuration comes from, and who asks that it be read anew.
#[derive(Debug)]
pub struct Reloads {
    origin: Arc<Origin>,
    /// A signal asks.
    asked: Arc<Notify>,
    /// The newest request that was answered; negative before the first look.
    seen: AtomicI64,
}

impl Reloads {
    pub fn new(origin: Origin, asked: Arc<Notify>) -> Self {
        Self { origin: Arc::new(origin), asked, seen: AtomicI64::new(-1) }
    }

    /// Waits until a configuration is to take the place of `now`, which goes on meanwhile.
    pub(super) async fn next(
        &self,
        now: &Settings,
        state: &StateTables,
        holder: &str,
    ) -> Box<Settings> {
        loop {
            let request = self.request(state).await;
            service_manager::tell(service_manager::RELOADING);
            let read = read(Arc::clone(&self.origin), now).await;
            let (outcome, said) = match &read {
                Ok(next) if next.say_the_same(now) => {
                    (Outcome::Done, "nothing is changed".to_owned())
                }
                Ok(next) => (Outcome::Done, changes(now, next)),
                Err(why) => (Outcome::Refused, why.clone()),
            };
            if read.is_ok() {
                tracing::warn!("the configuration is taken anew: {said}");
            } else {
                tracing::error!("the configuration is refused, nothing changes: {said}");
            }
            if let Some(request) = request {
                let said = match outcome {
                    Outcome::Done => format!("{holder}: {said}"),
                    _ => format!("{holder}: refused: {said}"),
                };
                if let Err(fault) = state.answer_all(Verb::Reload, request.id, outcome, &said).await
                {
                    tracing::warn!(command = request.id, "request not answered: {fault}");
                }
            }
            if let Some(next) = read.ok().filter(|next| !next.say_the_same(now)) {
                return next;
            }
            service_manager::tell(service_manager::READY);
        }
    }

    /// Waits for a request, recorded or by a signal. At the first look one that was asked while
    /// this process began is asked of it, too.
    async fn request(&self, state: &StateTables) -> Option<Command> {
        loop {
            tokio::select! {
                () = self.asked.notified() => return None,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let seen = self.seen.load(Ordering::Relaxed);
            match state.reload_asked((seen >= 0).then_some(seen)).await {
                Ok(Some(request)) => {
                    self.seen.store(request.id, Ordering::Relaxed);
                    return Some(request);
                }
                Ok(None) => self.seen.store(seen.max(0), Ordering::Relaxed),
                Err(fault) => tracing::debug!("requests to reload not looked for: {fault}"),
            }
        }
    }
}

/// The configuration as it is now, if it can take the place of the one in use.
async fn read(origin: Arc<Origin>, now: &Settings) -> Result<Box<Settings>, String> {
    let loaded = tokio::task::spawn_blocking(move || Settings::load(&origin)).await;
    let next = loaded.map_err(|error| error.to_string())?.map_err(|wrong| wrong.to_string())?;
    connection_strings::judge(&next).await.map_err(|wrong| wrong.to_string())?;
    let fixed = fixed(now, &next);
    if !fixed.is_empty() {
        return Err(format!("{} can be changed by a restart alone", fixed.join(", ")));
    }
    let unfit = check::unfit(&next, &to_prove(now, &next)).await;
    let told: Vec<_> = unfit.iter().map(ToString::to_string).collect();
    if told.is_empty() { Ok(Box::new(next)) } else { Err(told.join("\n  ")) }
}

/// What a running process cannot change.
pub const FIXED_KEYS: [&str; 5] =
    ["service", "environment", "status.listen", "log.format", "target.state_schema"];

/// The same as a configuration has it.
fn fixed_values(of: &Settings) -> [String; 5] {
    [
        of.service.clone(),
        of.environment.clone(),
        of.status.listen.to_string(),
        shown(&of.log.format),
        of.target.state_schema.clone(),
    ]
}

/// Which of that is changed.
fn fixed(now: &Settings, next: &Settings) -> Vec<&'static str> {
    let values = fixed_values(now).into_iter().zip(fixed_values(next));
    let keys = FIXED_KEYS.into_iter().zip(values);
    keys.filter(|(_, (before, after))| before != after).map(|(key, _)| key).collect()
}

/// The streams that are added or changed; all, where another end or place is meant.
fn to_prove<'s>(now: &Settings, next: &'s Settings) -> Vec<&'s StreamSettings> {
    let ends = |of: &Settings| (shown(&of.source), shown(&of.target), shown(&of.migrate));
    let place = |of: &Settings, stream: &StreamSettings| {
        (shown(stream), of.database_of(stream).to_owned(), of.table_of(stream))
    };
    let is_elsewhere = ends(now) != ends(next);
    let is_changed = |stream: &&StreamSettings| {
        let before = now.streams.iter().find(|before| before.name == stream.name);
        is_elsewhere || before.is_none_or(|before| place(now, before) != place(next, stream))
    };
    next.streams.iter().filter(is_changed).collect()
}

/// What is changed, for people: streams by name, and the sections of other keys.
fn changes(now: &Settings, next: &Settings) -> String {
    let (old, new) = (&now.streams, &next.streams);
    let named = |streams: &[StreamSettings], name: &str| {
        streams.iter().find(|stream| stream.name == name).map(shown)
    };
    let names = |streams: Vec<&StreamSettings>| {
        streams.iter().map(|stream| stream.name.clone()).collect::<Vec<_>>()
    };
    let added = new.iter().filter(|stream| named(old, &stream.name).is_none());
    let removed = old.iter().filter(|stream| named(new, &stream.name).is_none());
    let changed = new
        .iter()
        .filter(|stream| named(old, &stream.name).is_some_and(|before| before != shown(*stream)));
    let sections = sections(now).into_iter().zip(sections(next));
    let sections = sections.filter(|(before, after)| before.1 != after.1);
    let told = [
        ("streams added", names(added.collect())),
        ("streams removed", names(removed.collect())),
        ("streams changed", names(changed.collect())),
        ("sections changed", sections.map(|(_, (name, _))| name.to_owned()).collect()),
    ];
    let told = told.into_iter().filter(|(_, which)| !which.is_empty());
    let told: Vec<_> = told.map(|(what, which)| format!("{what}: {}", which.join(", "))).collect();
    if told.is_empty() { "secrets alone are changed".to_owned() } else { told.join("; ") }
}

fn sections(of: &Settings) -> [(&'static str, String); 15] {
    [
        ("source", shown(&of.source)),
        ("target", shown(&of.target)),
        ("migrate", shown(&of.migrate)),
        ("batch", shown(&of.batch)),
        ("checkpoint", shown(&of.checkpoint)),
        ("resync", shown(&of.resync)),
        ("compare", shown(&of.compare)),
        ("record", shown(&(of.record, of.row))),
        ("lease", shown(&of.lease)),
        ("retry", shown(&of.retry)),
        ("retention", shown(&of.retention)),
        ("status", shown(&of.status)),
        ("alert", shown(&of.alert)),
        ("log", shown(&of.log)),
        ("telemetry", shown(&of.collector)),
    ]
}

/// Secrets do not show themselves.
fn shown(value: &(impl Debug + ?Sized)) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::load(&Origin::default()).unwrap();
        change(&mut settings);
        settings
    }

    #[test]
    fn what_is_changed_is_told_by_name() {
        let now = settings(|_| {});
        assert!(now.say_the_same(&settings(|_| {})));
        assert_eq!(changes(&now, &settings(|_| {})), "secrets alone are changed");
        let next = settings(|next| {
            let mut added = next.streams[0].clone();
            added.name = "new".to_owned();
            next.streams.push(added);
            next.streams[0].collection = "other".to_owned();
            next.streams.remove(1);
            next.batch.events_max += 1;
        });
        assert_eq!(
            changes(&now, &next),
            "streams added: new; streams removed: recommendation; streams changed: doctor; \
             sections changed: batch"
        );
    }

    #[test]
    fn streams_that_are_added_or_changed_are_proved_and_all_at_another_end() {
        let now = settings(|_| {});
        let proved = |change: &dyn Fn(&mut Settings)| {
            let next = settings(change);
            to_prove(&now, &next).iter().map(|stream| stream.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(proved(&|next| next.batch.events_max += 1), [""; 0]);
        assert_eq!(proved(&|next| next.streams[1].keeping.history = true), ["recommendation"]);
        assert_eq!(proved(&|next| next.streams[0].name = "new".to_owned()), ["new"]);
        let both = ["doctor", "recommendation"];
        assert_eq!(proved(&|next| next.migrate.automatic = false), both);
        assert_eq!(proved(&|next| next.groups[0].schema = "other".to_owned()), both);
    }

    #[test]
    fn what_a_running_process_cannot_change_is_refused() {
        let now = settings(|_| {});
        assert!(fixed(&now, &settings(|next| next.log.filter = "debug".to_owned())).is_empty());
        let next = settings(|next| {
            next.service = "other".to_owned();
            next.status.listen = "127.0.0.1:1".parse().unwrap();
        });
        assert_eq!(fixed(&now, &next), ["service", "status.listen"]);
    }
}
