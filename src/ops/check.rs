//! Proves both ends without changing anything: what `run` needs is asked for here, in the same words.

use serde::Serialize;

use crate::apply::{Mapping, Statements, read_live};
use crate::checkpoint::Checkpoints;
use crate::error::{Class, Code, Fault};
use crate::model::bson::Doc;
use crate::model::namespace::Table;
use crate::model::position::ClusterTime;
use crate::postgres::{Target, close, within};
use crate::settings::{PostImage, RowLimits, Settings, Stream};
use crate::source::{FeedOptions, Found, Source};

/// One thing proved, or not.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub ok: bool,
    /// What was found, or what is wrong.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
    /// A dependency did not answer: not a fault of the configuration.
    pub down: bool,
}

impl Finding {
    fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), ok: true, detail: detail.into(), remedy: String::new(), down: false }
    }

    fn failed(what: impl Into<String>, fault: &Fault) -> Self {
        let (detail, remedy) = (fault.message.clone(), fault.hint.to_owned());
        Self { what: what.into(), ok: false, detail, remedy, down: fault.class.may_retry() }
    }

    fn of(what: impl Into<String>, result: Result<String, Fault>) -> Self {
        match result {
            Ok(detail) => Self::ok(what, detail),
            Err(fault) => Self::failed(what, &fault),
        }
    }
}

/// Checks both ends.
pub async fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = source(settings).await;
    findings.extend(target(settings).await);
    findings.extend(alerts(settings).await);
    findings
}

async fn source(settings: &Settings) -> Vec<Finding> {
    let source = match Source::new(settings).await {
        Ok(source) => source,
        Err(fault) => return vec![Finding::failed("source", &fault)],
    };
    let reached = source
        .facts()
        .await
        .map(|facts| format!("{} at {}, replica set {}", facts.version, source.shown(), facts.replica_set));
    let unreachable = reached.is_err();
    let mut findings = vec![Finding::of("source", reached)];
    if unreachable {
        return findings;
    }
    for stream in &settings.streams {
        let what = format!("change stream of {}", source.namespace(&stream.collection));
        findings.push(Finding::of(what, open(&source, settings, stream).await));
        let what = format!("documents of {}", source.namespace(&stream.collection));
        let read = read(&source, stream).await;
        let readable = read.is_ok();
        findings.push(Finding::of(what, read));
        if readable {
            let what = format!("fields of {}", source.namespace(&stream.collection));
            findings.push(Finding::of(what, fields(&source, stream, settings.row).await));
        }
    }
    findings.push(Finding::of("cluster", source.cluster().await.map(identified)));
    findings.push(history(&source, settings).await);
    findings
}

/// Whether another cluster of the same names could be told from this one.
fn identified(cluster: Option<String>) -> String {
    cluster.map_or_else(
        || {
            "not told: grant `find` on local.system.replset and local.oplog.rs, or another cluster with the same names, or \
             this one restored to an earlier moment, is not noticed"
                .to_owned()
        },
        |id| format!("replica set id {id}"),
    )
}

/// Opens the stream with the very options `run` uses, and reads its first reply.
async fn open(source: &Source, settings: &Settings, stream: &Stream) -> Result<String, Fault> {
    let options = FeedOptions { poll: std::time::Duration::from_millis(100), ..FeedOptions::of(stream, settings) };
    let reply = source.open(&options, None).await?.next().await?;
    let mode = PostImage::NAMES.iter().find(|(_, mode)| *mode == stream.post_image).map_or("", |(name, _)| *name);
    if reply.token.is_none() && options.heartbeat.is_none() {
        let message = "opens, but the server sends no post-batch resume token: an idle stream would lose its place";
        let hint = "set source.heartbeat_collection to a collection of its own that the user may write";
        return Err(Fault::new(Class::Halt, Code::SourceMisconfigured, message, hint));
    }
    let token = if reply.token.is_some() { "with" } else { "heartbeats instead of" };
    Ok(format!("opens, post_image = {mode}, {token} post-batch resume token"))
}

/// Reads documents: lookups and walks need the right to.
async fn read(source: &Source, stream: &Stream) -> Result<String, Fault> {
    if source.find_collection(&stream.collection).await? == Found::Nothing {
        let message = "the collection does not exist: tidemark would wait for it";
        let hint = "correct source.database or the stream's collection, or create it";
        return Err(Fault::new(Class::Halt, Code::SourceDropped, message, hint));
    }
    let all = crate::model::bson::Builder::default();
    let mut documents = source.chunk(&stream.collection, all, 1, ClusterTime::default()).await?;
    documents.next().await?;
    let estimate = source.estimate(&stream.collection).await?;
    Ok(format!("readable, about {estimate}"))
}

/// How many documents are looked at for columns that cannot take their fields.
const SAMPLE: u64 = 200;

/// A column none of whose sampled values fits its type is named: the configuration is wrong, or the field has changed.
async fn fields(source: &Source, stream: &Stream, limits: RowLimits) -> Result<String, Fault> {
    let mapping = Mapping::new(&stream.columns, limits);
    let (mut seen, mut found) = (0_u64, Vec::new());
    let mut documents = source.sample(&stream.collection, SAMPLE, ClusterTime::default()).await?;
    while let Some(reply) = documents.next().await? {
        for document in reply.items().filter_map(|bytes| Doc::new(bytes).ok()) {
            seen += 1;
            let _ = mapping.survey(document, &mut found);
        }
    }
    let unfit: Vec<String> = stream
        .columns
        .iter()
        .zip(&found)
        .filter(|(_, (present, unfit))| *unfit > 0 && present == unfit)
        .map(|(column, (present, _))| format!("{} takes none of {present} values", column.name))
        .collect();
    if unfit.is_empty() {
        return Ok(format!("every column takes its field in {seen} documents sampled"));
    }
    let hint = "correct the type of the [[stream.column]], and of the table's column";
    Err(Fault::new(Class::Halt, Code::FieldDrift, unfit.join("; "), hint))
}

async fn history(source: &Source, settings: &Settings) -> Finding {
    let read = source.oldest_entry().await.is_some();
    match source.horizon(settings.source.history_retention).await {
        Ok(horizon) => {
            let told =
                if read { "read from the oplog" } else { "from source.history_retention; the oplog may not be read" };
            let window =
                horizon.window_seconds.map_or_else(|| "unknown".to_owned(), |s| format!("{:.1} h, {told}", s / 3600.0));
            Finding::ok("history kept", window)
        }
        Err(fault) => Finding::failed("history kept", &fault),
    }
}

async fn target(settings: &Settings) -> Vec<Finding> {
    let target = match Target::new(settings) {
        Ok(target) => target,
        Err(fault) => return vec![Finding::failed("target", &fault)],
    };
    let mut connection = match target.connect().await {
        Ok(connection) => connection,
        Err(fault) => return vec![Finding::failed(format!("target {}", target.shown()), &fault)],
    };
    let mut findings = vec![version(&mut connection, &target).await];
    let checkpoints = Checkpoints::new(target.clone(), target.pool(1), &settings.target.state_schema);
    let names: Vec<&str> = settings.streams.iter().map(|stream| stream.name.as_str()).collect();
    let ours = checkpoints.refuse_strangers(&mut connection, &names).await;
    findings.push(Finding::of("whose streams", ours.map(|()| format!("{}'s, or nobody's yet", settings.owner()))));
    for (name, statement) in checkpoints.probes() {
        let what = format!("table {}.{name}", settings.target.state_schema);
        findings.push(Finding::of(what, prepare(&mut connection, &target, statement).await));
    }
    for stream in &settings.streams {
        findings.extend(table(&mut connection, &target, settings, stream).await);
    }
    close(connection).await;
    findings
}

async fn version(connection: &mut sqlx::PgConnection, target: &Target) -> Finding {
    let query = sqlx::query_scalar::<_, String>("select current_setting('server_version')");
    let version = within(target.deadline(), query.fetch_one(connection)).await;
    Finding::of(format!("target {}", target.shown()), version.map(|version| format!("PostgreSQL {version}")))
}

/// The followed table's columns, the right to write it, and every statement prepared against it.
async fn table(
    connection: &mut sqlx::PgConnection,
    target: &Target,
    settings: &Settings,
    stream: &Stream,
) -> Vec<Finding> {
    let table = Table { schema: settings.target.schema.clone(), name: stream.table.clone() };
    let what = format!("table {table}");
    let live = match read_live(connection, target, &table).await {
        Ok(live) => live,
        Err(fault) => return vec![Finding::failed(what, &fault)],
    };
    let differences = live.differences(&table, &stream.columns);
    let mut findings: Vec<Finding> = differences
        .iter()
        .map(|difference| Finding {
            what: what.clone(),
            ok: false,
            detail: difference.clone(),
            remedy: "run `tidemark migrate`; a column of another type must be altered by hand".to_owned(),
            down: false,
        })
        .collect();
    // What is missing fails every statement, too: it is said once.
    if !findings.is_empty() {
        return findings;
    }
    findings.push(Finding::ok(&what, format!("{} columns as configured", stream.columns.len())));
    findings.push(Finding::of(format!("privileges on {table}"), privileges(connection, target, &table).await));
    let statements = Statements::new(&table, &stream.columns);
    for (name, statement) in statements.preparable() {
        let prepared = prepare(connection, target, statement.to_string()).await;
        findings.push(Finding::of(format!("{name} into {table}"), prepared));
    }
    findings
}

async fn privileges(connection: &mut sqlx::PgConnection, target: &Target, table: &Table) -> Result<String, Fault> {
    let query = sqlx::query_scalar::<_, bool>(
        "select has_table_privilege($1, 'select') and has_table_privilege($1, 'insert') \
         and has_table_privilege($1, 'update') and has_table_privilege($1, 'delete')",
    )
    .bind(table.sql());
    if within(target.deadline(), query.fetch_one(connection)).await? {
        return Ok("select, insert, update, delete".to_owned());
    }
    let message = format!("the user of target.url may not write {table}");
    let hint = "grant select, insert, update, delete on the table to it";
    Err(Fault::new(Class::Halt, Code::TargetUnauthorised, message, hint))
}

async fn prepare(connection: &mut sqlx::PgConnection, target: &Target, statement: String) -> Result<String, Fault> {
    let sql = sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(statement));
    within(target.deadline(), sqlx::Executor::prepare(connection, sql)).await?;
    Ok("prepared".to_owned())
}

/// The channels that are configured. Nothing is sent.
async fn alerts(settings: &Settings) -> Vec<Finding> {
    let alert = &settings.alert;
    let mut findings = Vec::new();
    if let Some(asked) = super::alert::ask_slack(settings).await {
        findings.push(Finding::of("slack", asked));
    }
    let others = [
        ("slack webhook", &alert.slack_webhook_url),
        ("sentry", &alert.sentry_dsn),
        ("heartbeat", &alert.heartbeat_url),
    ];
    for (what, _) in others.iter().filter(|(_, secret)| !secret.is_empty()) {
        findings.push(Finding::ok(*what, "configured; `tidemark alert test` sends through it"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("alert channels", "none configured: nobody is told of an incident"));
    }
    findings
}
