//! Runs everything: the status address, one task a group, the probe of the source; and ends it all
//! in order.
//!
//! One shutdown, one deadline. Whatever a group does or meets, a bug or a panic included, the
//! others and the status address go on.

mod bugs;
mod compare;
mod group;
mod history_window;
mod lease_keeper;
mod log_level;
mod progress;
mod reload;
mod retention;
mod share;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alert::Alerts;
use crate::apply::{Mapping, RowBuffers, Statements, Together};
use crate::batch::Routes;
use crate::error::Fault;
use crate::pipeline::{Context, GroupContext};
use crate::postgres::Target;
use crate::service_manager;
use crate::settings::{GroupSettings, Settings};
use crate::source::Source;
use crate::state::StateTables;
use crate::status::{Access, Board, GroupNames, StreamNames, serve};
use crate::telemetry;

use bugs::Bugs;
use lease_keeper::LeaseKeeper;
pub use reload::{FIXED_KEYS, Reloads};

/// How long all of it may take from being told to stop: Docker and Kubernetes kill after ten
/// seconds, and a process that is killed counts as crashed.
pub const STOP_WITHIN: Duration = Duration::from_millis(8_500);

/// The parts of that time: the streams finish their batches and give their leases back; then the
/// process writes down in Postgres that it has ended; then the status address, which shows all of
/// it, closes.
const DRAIN_DEADLINE: Duration = Duration::from_millis(6_000);
const LEAVE_DEADLINE: Duration = Duration::from_millis(2_000);
const SERVED_DEADLINE: Duration = Duration::from_millis(500);

/// The parts of a running daemon that every group shares.
#[derive(Debug)]
pub struct Daemon {
    board: Arc<Board>,
    groups: Vec<GroupContext>,
    state: StateTables,
    target: Target,
    source: Source,
    settings: Arc<Settings>,
    listener: TcpListener,
}

impl Daemon {
    /// Puts the parts together; nothing is connected yet. The listener is bound by the caller.
    ///
    /// # Errors
    /// The URI or URL of an end cannot be parsed.
    pub async fn new(settings: Settings, listener: TcpListener) -> Result<Self, Fault> {
        let settings = Arc::new(settings);
        let source = Source::new(&settings).await?;
        let target = Target::new(&settings)?;
        let pool = target.pool(settings.connections_shared());
        let state = StateTables::new(target.clone(), pool, &settings.target.state_schema);
        let named: Vec<_> = settings.groups.iter().map(|group| names(&settings, group)).collect();
        let board = Board::new(
            &settings.service,
            &settings.environment,
            &named,
            about(&settings, &source, &target),
        );
        let has_many = settings.groups.len() > 1;
        let together = has_many.then(|| Together::start(state.clone()));
        let parts = Parts {
            settings: &settings,
            source: &source,
            target: &target,
            state: &state,
            together,
        };
        let groups = settings.groups.iter().filter_map(|group| parts.group(group, &board));
        let groups = groups.collect();
        Ok(Self { board, groups, state, target, source, settings, listener })
    }

    /// What the daemon shows of itself.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Follows every stream until `told` to stop, within [`STOP_WITHIN`] of it, or until another
    /// configuration is to take the place of this one: then it is returned.
    ///
    /// # Errors
    /// The status address cannot be served.
    pub async fn run(
        self,
        told: &CancellationToken,
        reloads: Option<&Reloads>,
    ) -> anyhow::Result<Option<Box<Settings>>> {
        let stop = told.child_token();
        let served = CancellationToken::new();
        let token = self.settings.status.token.clone();
        let access =
            Access::new(move || token.now().expose().to_owned(), &self.settings.status.hosts);
        let thread =
            serve(self.listener.try_clone()?, Arc::clone(&self.board), access, served.clone())?;
        service_manager::tell(service_manager::READY);
        let holder: Arc<str> = holder().into();
        let mut helpers = self.helpers(&holder);
        progress::show(Arc::clone(&self.board), stop.clone());
        let mut groups = JoinSet::new();
        let (state, settings) = (self.state.clone(), Arc::clone(&self.settings));
        helpers.spawn(log_level::follow(state, settings, holder.to_string()));
        let alerts = Alerts::start(&self.settings, &self.target, &self.state, &self.board, &holder);
        helpers.spawn(retention::keep(
            alerts.outbox(),
            (self.target.clone(), self.state.clone()),
            Arc::clone(&self.settings),
        ));
        let bugs = Bugs::new(alerts.sentry.clone());
        bugs.watch_panics();
        tokio::select! {
            () = alerts.first_look() => {}
            () = stop.cancelled() => {}
        }
        let migrated = Arc::new(tokio::sync::OnceCell::new());
        let keeper = LeaseKeeper::new(&self.settings, &self.state, &self.target, &self.board);
        helpers.spawn(Arc::clone(&keeper).run());
        for group in &self.groups {
            let task = group::Task {
                group: group.clone(),
                board: Arc::clone(&self.board),
                holder: holder.clone(),
                stop: stop.clone(),
                migrated: Arc::clone(&migrated),
                bugs: Arc::clone(&bugs),
                keeper: Arc::clone(&keeper),
            };
            groups.spawn(task.run());
        }
        let next = tokio::select! {
            () = until_ended(&mut groups, &stop) => None,
            next = self.reloaded(reloads, &holder) => {
                stop.cancel();
                until_ended(&mut groups, &stop).await;
                Some(next).filter(|_| !told.is_cancelled())
            }
        };
        helpers.abort_all();
        let leave = async { tokio::join!(alerts.stop(true), self.state.pool().close()) };
        if tokio::time::timeout(LEAVE_DEADLINE, leave).await.is_err() {
            tracing::warn!(
                "postgres does not answer: that this process has ended is not written down"
            );
        }
        served.cancel();
        let joined = tokio::task::spawn_blocking(move || thread.join());
        let _ = tokio::time::timeout(SERVED_DEADLINE, joined).await;
        Ok(next)
    }

    /// What goes on beside the groups.
    fn helpers(&self, holder: &str) -> JoinSet<()> {
        let mut helpers = JoinSet::new();
        if let Some(exporter) = telemetry::Exporter::new(&self.settings, holder) {
            let board = Arc::clone(&self.board);
            helpers.spawn(exporter.run(move || board.metric_families()));
        }
        helpers.spawn(turn(Arc::clone(&self.board)));
        helpers.spawn(history_window::probe(
            Arc::clone(&self.board),
            self.source.clone(),
            self.settings.source.history_retention,
        ));
        helpers.spawn(history_window::beat(self.source.clone(), Arc::clone(&self.settings)));
        helpers.spawn(compare::compare_on_schedule(
            self.groups.clone().into(),
            self.state.clone(),
            Arc::clone(&self.settings),
        ));
        helpers
    }

    /// Waits for another configuration; for ever where none is taken.
    async fn reloaded(&self, reloads: Option<&Reloads>, holder: &str) -> Box<Settings> {
        match reloads {
            Some(reloads) => reloads.next(&self.settings, &self.state, holder).await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for the groups to end after `stop`, for as long as they may take. None ends before.
async fn until_ended(groups: &mut JoinSet<()>, stop: &CancellationToken) {
    let deadline = async {
        stop.cancelled().await;
        tracing::info!("told to stop: finishing batches");
        tokio::time::sleep(DRAIN_DEADLINE).await;
    };
    let all = async { while groups.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = deadline => {
            tracing::warn!("not every batch was finished in time: it will be read again");
        }
    }
    groups.abort_all();
}

/// What a group and its streams are called.
fn names(settings: &Settings, group: &GroupSettings) -> GroupNames {
    let streams = group.streams.iter().filter_map(|stream| settings.streams.get(*stream));
    GroupNames {
        name: group.name.clone(),
        streams: streams
            .map(|stream| StreamNames {
                name: stream.name.clone(),
                source: settings.namespace_of(stream).to_string(),
                table: settings.table_of(stream).to_string(),
            })
            .collect(),
    }
}

/// What every group is made of.
struct Parts<'a> {
    settings: &'a Arc<Settings>,
    source: &'a Source,
    target: &'a Target,
    state: &'a StateTables,
    together: Option<Together>,
}

impl Parts<'_> {
    fn group(&self, group: &GroupSettings, board: &Board) -> Option<GroupContext> {
        let source = self.source.of_database(&group.database);
        let buffers = RowBuffers::default();
        let streams = group.streams.iter().filter_map(|stream| self.settings.streams.get(*stream));
        let streams: Vec<Context> = streams
            .enumerate()
            .filter_map(|(place, config)| {
                let status = board.stream(&config.name)?;
                let columns = config.columns_told().into_iter();
                status
                    .mapped(columns.map(|column| (column.name.clone(), column.fields())).collect());
                let table = self.settings.table_of(config);
                Some(Context {
                    settings: Arc::clone(self.settings),
                    config: config.clone(),
                    place,
                    source: source.clone(),
                    namespace: source.namespace(&config.collection),
                    target: self.target.clone(),
                    statements: Statements::new(&table, config.rows()),
                    table,
                    state: self.state.clone(),
                    mapping: Arc::new(Mapping::new(config, self.settings.row)),
                    buffers: buffers.clone(),
                    status,
                    proved: Arc::default(),
                    widened: Arc::default(),
                    parked_times: Arc::default(),
                })
            })
            .collect();
        let collections = streams.iter().map(|stream| stream.config.collection.as_str());
        Some(GroupContext {
            settings: Arc::clone(self.settings),
            name: group.name.as_str().into(),
            source: source.clone(),
            target: self.target.clone(),
            state: self.state.clone(),
            routes: Arc::new(Routes::new(collections)),
            parked: streams.iter().map(|_| AtomicBool::new(false)).collect(),
            streams: streams.into(),
            buffers,
            status: board.group(&group.name)?,
            leaving: Arc::default(),
            together: self.together.clone(),
            is_freed: Arc::default(),
        })
    }
}

/// What the configuration comes to, as pairs of a name and a value, for the foot of the page.
fn about(settings: &Settings, source: &Source, target: &Target) -> Vec<(&'static str, String)> {
    let resync = &settings.resync;
    let automatic = if resync.automatic {
        format!(
            "automatic, {} a day, at most {:?} each",
            resync.automatic_per_day_max, resync.duration_max
        )
    } else {
        "only on request".to_owned()
    };
    vec![
        ("source", format!("{} / {}", source.shown(), settings.source.database)),
        ("target", target.shown()),
        (
            "batch",
            format!("{} events, {} KiB", settings.batch.events_max, settings.batch.bytes_max >> 10),
        ),
        ("idle position committed every", format!("{:?}", settings.checkpoint.idle_interval)),
        ("lease", format!("{:?}", settings.lease.duration)),
        ("resync", automatic),
        ("trouble is an incident after", format!("{:?}", settings.retry.escalate_after)),
    ]
}

/// Proves that the process's own loops turn.
async fn turn(board: Arc<Board>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        board.turned(telemetry::lines_dropped());
        service_manager::tell(service_manager::WATCHDOG);
    }
}

/// Host and process, for people.
fn holder() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "host" } else { host.trim() };
    format!("{host}/{}", std::process::id())
}
