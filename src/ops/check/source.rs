//! The source: its change streams, documents and history, and fields against columns.

use super::days::days;
use super::finding::Finding;
use super::hidden::HiddenPaths;
use super::wire;
use crate::apply::{Mapping, Sampled};
use crate::error::{Class, Code, Fault};
use crate::model::bson::Doc;
use crate::model::format::length_of;
use crate::model::position::ClusterTime;
use crate::settings::{Column, GroupSettings, PostImage, RowLimits, Settings, StreamSettings};
use crate::source::{ChangeStreamOptions, Found, Source};

pub(super) async fn source(settings: &Settings) -> Vec<Finding> {
    let source = match Source::new(settings).await {
        Ok(source) => source,
        Err(fault) => return vec![Finding::failed("source", &fault)],
    };
    let reached = source.facts().await.map(|facts| {
        format!("{} at {}, replica set {}", facts.version, source.shown(), facts.replica_set)
    });
    let unreachable = reached.is_err();
    let mut findings = vec![Finding::of("source", reached)];
    findings.extend(source.login().map(|login| Finding::ok("source's login", login)));
    if unreachable {
        return findings;
    }
    findings.extend(wire::source(&source));
    findings.push(Finding::of("source's connections", connections(&source).await));
    for group in &settings.groups {
        findings.push(change_stream(&source, settings, group).await);
    }
    for stream in &settings.streams {
        let source = source.of_database(settings.database_of(stream));
        let what = format!("documents of {}", source.namespace(&stream.collection));
        let read = read(&source, stream).await;
        let readable = read.is_ok();
        findings.push(Finding::of(what, read));
        if readable {
            findings.extend(fields(&source, stream, settings.row).await);
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
            "not told: grant `find` on local.system.replset and local.oplog.rs, or another cluster \
             with the same names, or this one restored to an earlier moment, is not noticed"
                .to_owned()
        },
        |id| format!("replica set id {id}"),
    )
}

/// Whether the server has the connections that are opened at most.
async fn connections(source: &Source) -> Result<String, Fault> {
    let Some(most) = source.connections_max().await else {
        return Ok("as many as are asked for (maxPoolSize=0)".to_owned());
    };
    let Some((used, free)) = source.connections().await? else {
        return Ok(format!("up to {most} to a server; its limit is not told (clusterMonitor)"));
    };
    if u64::from(most) <= free {
        return Ok(format!("up to {most} to a server, which takes {free} more ({used} in use)"));
    }
    let message = format!("up to {most} may be opened to a server, and {free} more are allowed");
    let hint = "lower maxPoolSize in source.uri, or raise the server's limit";
    Err(Fault::new(Class::Halt, Code::SourceMisconfigured, message, hint))
}

/// Opens a group's change stream with the very options `run` uses, and reads its first reply.
async fn change_stream(source: &Source, settings: &Settings, group: &GroupSettings) -> Finding {
    let source = source.of_database(&group.database);
    let streams = group.streams.iter().filter_map(|stream| settings.streams.get(*stream));
    let streams: Vec<&StreamSettings> = streams.collect();
    let what = match &*streams {
        [stream] => format!("change stream of {}", source.namespace(&stream.collection)),
        _ => format!("change stream of group {}", group.name),
    };
    Finding::of(what, open(&source, settings, &streams).await)
}

async fn open(
    source: &Source,
    settings: &Settings,
    streams: &[&StreamSettings],
) -> Result<String, Fault> {
    let options = ChangeStreamOptions {
        poll: std::time::Duration::from_millis(100),
        ..ChangeStreamOptions::of(streams, settings)
    };
    let reply = source.open(&options, None).await?.next().await?;
    let mode = PostImage::NAMES
        .iter()
        .find(|(_, mode)| *mode == options.post_image)
        .map_or("", |(name, _)| *name);
    if reply.token.is_none() && options.heartbeat.is_none() {
        let message = "opens, but the server sends no post-batch resume token: an idle stream \
                       would lose its place";
        let hint =
            "set source.heartbeat_collection to a collection of its own that the user may write";
        return Err(Fault::new(Class::Halt, Code::SourceMisconfigured, message, hint));
    }
    let token = if reply.token.is_some() { "with" } else { "heartbeats instead of" };
    let on = match streams.len() {
        1 => String::new(),
        number => format!(" on {number} collections of {}", source.database_name()),
    };
    Ok(format!("opens{on}, post_image = {mode}, {token} post-batch resume token"))
}

/// Reads documents: lookups and walks need the right to.
pub(super) async fn read(source: &Source, stream: &StreamSettings) -> Result<String, Fault> {
    match source.find_collection(&stream.collection).await? {
        Found::Collection(_) => {}
        Found::Nothing => {
            let message = "the collection does not exist: tidemark would wait for it";
            let hint = "correct source.database or the stream's collection, or create it";
            return Err(Fault::new(Class::Halt, Code::SourceDropped, message, hint));
        }
        Found::View | Found::TimeSeries => {
            let message = "a view or a time-series collection has no change stream";
            let hint = "follow the collection it is made of";
            return Err(Fault::new(Class::Halt, Code::SourceMisconfigured, message, hint));
        }
    }
    let all = crate::model::bson::Builder::default();
    let mut documents = source.chunk(&stream.collection, all, 1, ClusterTime::default()).await?;
    documents.next().await?;
    let estimate = source.estimate(&stream.collection).await?;
    Ok(format!("readable, about {estimate}"))
}

/// How many documents are looked at for columns that cannot take their fields.
const SAMPLE: u64 = 200;

/// Fields against columns, and dates against days.
async fn fields(source: &Source, stream: &StreamSettings, limits: RowLimits) -> Vec<Finding> {
    let namespace = source.namespace(&stream.collection);
    let what = format!("fields of {namespace}");
    match look(source, stream, limits).await {
        Err(fault) => vec![Finding::failed(what, &fault)],
        Ok(Looked { seen, of, found, hidden }) => {
            let columns = stream.columns_told();
            let mut findings = vec![Finding::of(what, fit(&columns, seen, &of, &found))];
            findings.extend(days(format!("days of {namespace}"), &columns, &found));
            findings.extend(hidden.finding(format!("hidden in {namespace}"), seen));
            findings
        }
    }
}

/// What was seen in a sample.
struct Looked {
    /// Documents.
    seen: u64,
    /// Of how many, where a filter lets not all through.
    of: String,
    /// By column.
    found: Vec<Sampled>,
    hidden: HiddenPaths,
}

async fn look(
    source: &Source,
    stream: &StreamSettings,
    limits: RowLimits,
) -> Result<Looked, Fault> {
    let mapping = Mapping::new(stream, limits);
    let (mut sampled, mut seen, mut found) = (0, 0, Vec::new());
    let mut hidden = HiddenPaths::of(stream.redaction.configured());
    let mut documents = source.sample(&stream.collection, SAMPLE, ClusterTime::default()).await?;
    while let Some(reply) = documents.next().await? {
        sampled += crate::model::count(reply.len());
        let followed = reply.items().filter(|bytes| mapping.follows(bytes));
        for document in followed.filter_map(|bytes| Doc::new(bytes).ok()) {
            seen += 1;
            let _ = mapping.survey(document, &mut found);
            hidden.look(document);
        }
    }
    let of = match mapping.filter() {
        Some(_) => format!(" of {sampled} that the filter lets through"),
        None => String::new(),
    };
    Ok(Looked { seen, of, found, hidden })
}

/// A column none of whose sampled values fits its type is named: the configuration is wrong, or the
/// field has changed.
fn fit(columns: &[Column], seen: u64, of: &str, found: &[Sampled]) -> Result<String, Fault> {
    let unfit: Vec<String> = columns
        .iter()
        .zip(found)
        .filter(|(_, sampled)| sampled.unfit > 0 && sampled.present == sampled.unfit)
        .map(|(column, sampled)| {
            format!("{} takes none of {} values", column.name, sampled.present)
        })
        .collect();
    if unfit.is_empty() {
        return Ok(format!("every column takes its field in {seen} documents sampled{of}"));
    }
    let hint = "correct the type of the [[stream.column]], and of the table's column";
    Err(Fault::new(Class::Halt, Code::FieldDrift, unfit.join("; "), hint))
}

async fn history(source: &Source, settings: &Settings) -> Finding {
    let read = source.oldest_entry().await.is_some();
    match source.history_window(settings.source.history_retention).await {
        Ok(window) => {
            let told = if read {
                "read from the oplog"
            } else {
                "from source.history_retention; the oplog may not be read"
            };
            let length = window
                .window_seconds
                .map_or_else(|| "unknown".to_owned(), |s| format!("{}, {told}", length_of(s)));
            Finding::ok("history kept", length)
        }
        Err(fault) => Finding::failed("history kept", &fault),
    }
}
