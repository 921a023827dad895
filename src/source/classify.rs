//! The one place where an error of the source gets its class. Table first, functions below.
//!
//! Codes and names: <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>;
//! a `Location` has no name there, and is the number of the check that failed. `DocumentDB`'s where
//! named. The same function serves errors at open and in mid-stream.

use mongodb::error::{Error, ErrorKind};

use super::unreachable::servers;
use crate::error::{Class, Code, Fault, refused_certificate, why_away};

struct Rule {
    code: i32,
    /// As the server calls it.
    name: &'static str,
    /// Text the message must contain for the rule to hold; empty = any.
    text: &'static str,
    class: Class,
    incident: Code,
    hint: &'static str,
}

const fn rule(
    code: i32,
    name: &'static str,
    text: &'static str,
    class: Class,
    incident: Code,
    hint: &'static str,
) -> Rule {
    Rule { code, name, text, class, incident, hint }
}

const LOST: &str = "the stream's history is gone; a full resync of this stream repairs its table";
const ENABLE: &str =
    "enable change streams for the whole database (Amazon DocumentDB: modifyChangeStreams)";
const GRANT: &str =
    "grant the user of source.uri `read` on the whole database, and `find` on local.oplog.rs";
const LOGIN: &str = "check the user, password and authSource in source.uri";
const AWS_LOGIN: &str = "create the AWS identity of this process as a user in $external \
                         (docs/operating.md, Login by IAM)";
const AWS_KEY: &str = "give the process an AWS identity, or see why its key is not to be had \
                       (docs/operating.md, Login by IAM)";
const REPLICA: &str = "change streams need a replica set";
const VIEW: &str =
    "a view or a time-series collection has no change stream: follow the collection it is made of";
const OPTION: &str =
    "the server does not know an option or stage; check post_image against the server's version";
const POST_IMAGE: &str =
    "post_image = \"required\" needs changeStreamPreAndPostImages on the collection";
const KEY: &str = "the change stream's filter removes _id, which resuming needs";

/// What a wrong class costs: a lost history taken for a passing error is retried in vain while the
/// table falls behind, until a person looks; a passing error taken for a lost history walks the
/// whole collection for nothing, and spends one of the day's automatic resyncs.
///
/// Specific rules stand before general ones; the first that matches decides.
const RULES: &[Rule] = &[
    rule(
        136,
        "CappedPositionLost",
        "modifychangestreams",
        Class::Halt,
        Code::SourceMisconfigured,
        ENABLE,
    ),
    rule(
        136,
        "CappedPositionLost",
        "position in capped collection",
        Class::HistoryLost,
        Code::HistoryLost,
        LOST,
    ),
    rule(9, "FailedToParse", "invalid resume token", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(9, "FailedToParse", "", Class::Halt, Code::SourceMisconfigured, OPTION),
    rule(
        280,
        "ChangeStreamFatalError",
        "resume token was not found",
        Class::HistoryLost,
        Code::HistoryLost,
        LOST,
    ),
    rule(280, "ChangeStreamFatalError", "_id", Class::Halt, Code::SourceMisconfigured, KEY),
    rule(286, "ChangeStreamHistoryLost", "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(260, "InvalidResumeToken", "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40576, "Location40576", "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40615, "Location40615", "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40647, "Location40647", "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40648, "Location40648", "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(50811, "Location50811", "", Class::HistoryLost, Code::HistoryLost, LOST),
    // A shard was removed, and with it the part of the history that only it had.
    rule(464, "ShardRemovedError", "", Class::HistoryLost, Code::HistoryLost, LOST),
    // A read that is to be causally after a time the server has not heard of yet: it will.
    rule(
        72,
        "InvalidOptions",
        "must not be greater than the current clustertime",
        Class::Transient,
        Code::SourceUnreachable,
        "",
    ),
    rule(13, "Unauthorized", "", Class::Halt, Code::SourceUnauthorised, GRANT),
    rule(18, "AuthenticationFailed", "", Class::Halt, Code::SourceUnauthorised, LOGIN),
    rule(8000, "AtlasError", "", Class::Halt, Code::SourceUnauthorised, LOGIN),
    rule(20, "IllegalOperation", "", Class::Halt, Code::SourceMisconfigured, REPLICA),
    rule(166, "CommandNotSupportedOnView", "", Class::Halt, Code::SourceMisconfigured, VIEW),
    rule(167, "OptionNotSupportedOnView", "", Class::Halt, Code::SourceMisconfigured, VIEW),
    rule(40573, "Location40573", "", Class::Halt, Code::SourceMisconfigured, REPLICA),
    rule(40415, "Location40415", "", Class::Halt, Code::SourceMisconfigured, OPTION),
    rule(40324, "Location40324", "", Class::Halt, Code::SourceMisconfigured, OPTION),
    rule(47, "NoMatchingDocument", "", Class::Halt, Code::SourceMisconfigured, POST_IMAGE),
    rule(
        10334,
        "BSONObjectTooLarge",
        "",
        Class::Record,
        Code::DeadLetters,
        "the event is over 16 MB; it is fetched around",
    ),
    rule(
        26,
        "NamespaceNotFound",
        "",
        Class::Transient,
        Code::SourceUnreachable,
        "the collection does not exist yet",
    ),
];

/// Codes after which the same call may work later.
const TRANSIENT: &[(i32, &str)] = &[
    (6, "HostUnreachable"),
    (7, "HostNotFound"),
    (43, "CursorNotFound"),
    (50, "MaxTimeMSExpired"),
    (63, "StaleShardVersion"),
    (70, "ShardNotFound"),
    (89, "NetworkTimeout"),
    (91, "ShutdownInProgress"),
    (117, "ConflictingOperationInProgress"),
    (133, "FailedToSatisfyReadPreference"),
    (134, "ReadConcernMajorityNotAvailableYet"),
    (150, "StaleEpoch"),
    // A find cut by a drop, whose event decides what follows.
    (175, "QueryPlanKilled"),
    (189, "PrimarySteppedDown"),
    (202, "NetworkInterfaceExceededTimeLimit"),
    (216, "ElectionInProgress"),
    (234, "RetryChangeStream"),
    (237, "CursorKilled"),
    (239, "SnapshotTooOld"),
    (246, "SnapshotUnavailable"),
    (249, "StaleDbVersion"),
    (262, "ExceededTimeLimit"),
    (317, "ConnectionPoolExpired"),
    (358, "InternalTransactionNotSupported"),
    (9001, "SocketException"),
    (10107, "NotWritablePrimary"),
    (11600, "InterruptedAtShutdown"),
    (11601, "Interrupted"),
    (11602, "InterruptedDueToReplStateChange"),
    (13388, "StaleConfig"),
    (13435, "NotPrimaryNoSecondaryOk"),
    (13436, "NotPrimaryOrSecondary"),
    (17287, "Location17287"), // Amazon DocumentDB's
];

const TRANSIENT_LABELS: [&str; 3] =
    ["ResumableChangeStreamError", "RetryableError", "RetryableWriteError"];

/// What a server said, apart from the driver's types.
#[derive(Debug, Clone, Copy)]
pub struct ServerAnswer<'a> {
    pub code: i32,
    pub name: &'a str,
    pub message: &'a str,
    pub labels: &'a [String],
}

/// Sorts a server's error by code, text and labels.
pub fn classify_answer(answer: &ServerAnswer<'_>) -> Fault {
    let text = answer.message.to_lowercase();
    let (class, code, hint) = decide(answer, &text);
    Fault::new(class, code, describe(answer), hint)
}

fn decide(answer: &ServerAnswer<'_>, text: &str) -> (Class, Code, &'static str) {
    let matching = RULES.iter().find(|rule| rule.code == answer.code && text.contains(rule.text));
    if let Some(rule) = matching {
        return (rule.class, rule.incident, rule.hint);
    }
    if says_history_is_lost(text) {
        return (Class::HistoryLost, Code::HistoryLost, LOST);
    }
    let labelled = answer.labels.iter().any(|label| TRANSIENT_LABELS.contains(&label.as_str()));
    let is_transient = TRANSIENT.iter().any(|(code, _)| *code == answer.code);
    if is_transient || labelled || text.contains("too many cursors") {
        return (Class::Transient, Code::SourceUnreachable, "");
    }
    (Class::Unknown, Code::SourceUnreachable, "a code tidemark does not know: please report it")
}

/// Older and other servers say it in words.
fn says_history_is_lost(text: &str) -> bool {
    let subject = text.contains("resume token") || text.contains("resume point");
    let verdict = ["not found", "no longer be in the oplog", "does not exist"]
        .iter()
        .any(|v| text.contains(v));
    subject && verdict
}

/// The beginnings of what a server quotes: a document, a value, an id, which may be anybody's.
const QUOTES: [&str; 5] = ["{", "[", "\"", "ObjectId(", "First element"];

/// A word of so many hex digits is an id or a token.
const HEX_MIN: usize = 20;

/// The server's own words only: what it quotes is left out, and what is left is one sentence.
fn describe(answer: &ServerAnswer<'_>) -> String {
    let own = QUOTES.iter().filter_map(|quote| answer.message.find(quote)).min();
    let own = own.and_then(|end| answer.message.get(..end)).unwrap_or(answer.message);
    let is_id =
        |word: &str| word.len() >= HEX_MIN && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = own
        .split_whitespace()
        .map(|word| if is_id(word.trim_matches(['\'', '.', ','])) { "…" } else { word });
    let sentence: String = words.collect::<Vec<_>>().join(" ").chars().take(160).collect();
    let name = if answer.name.is_empty() { name_of(answer.code) } else { answer.name };
    format!("mongodb answered {} {name}: {sentence}", answer.code)
}

/// The name of a code that the server gave without its name; empty for one that is in no table.
fn name_of(code: i32) -> &'static str {
    let ruled = RULES.iter().map(|rule| (rule.code, rule.name));
    let mut named = ruled.chain(TRANSIENT.iter().copied());
    named.find(|(known, _)| *known == code).map_or("", |(_, name)| name)
}

fn certificate(why: &str) -> Fault {
    Fault::new(
        Class::Transient,
        Code::SourceUnreachable,
        format!("the certificate of mongodb is not accepted: {why}"),
        "check tlsCAFile in source.uri, and the name of the server",
    )
}

/// What the driver says of a login by IAM that failed, after this.
const AWS_FAILED: &str = "MONGODB-AWS failure: ";

/// Whether the login that failed was one by IAM: its key may be another one at the next.
pub(super) fn is_by_aws(error: &Error) -> bool {
    let ErrorKind::Authentication { message, .. } = error.kind.as_ref() else { return false };
    message.starts_with(AWS_FAILED)
}

/// The driver's words are not repeated: they hold the server's, or those of whoever keeps keys.
fn login_refused(driver: &str) -> Fault {
    let (message, hint) = match driver.strip_prefix(AWS_FAILED) {
        None => ("mongodb refused the login", LOGIN),
        Some(why) if why.starts_with("failed to get creds") => {
            ("no AWS key could be had to log in to mongodb with", AWS_KEY)
        }
        Some(_) => ("mongodb refused the login by MONGODB-AWS", AWS_LOGIN),
    };
    Fault::new(Class::Halt, Code::SourceUnauthorised, message, hint)
}

/// Whether it was who asked that was refused, and not what was asked for.
pub(super) fn is_login_refused(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        ErrorKind::Command(command) => [18, 8000].contains(&command.code),
        _ => false,
    }
}

/// Sorts a driver error. Anything that is not a server's answer is the world, unless a person must
/// mend it.
pub(super) fn classify(error: &Error) -> Fault {
    let labels: Vec<String> = error.labels().iter().cloned().collect();
    if let ErrorKind::Command(command) = error.kind.as_ref() {
        let (code, name, message) =
            (command.code, command.code_name.as_str(), command.message.as_str());
        return classify_answer(&ServerAnswer { code, name, message, labels: &labels });
    }
    let unreachable =
        |message: &str| Fault::new(Class::Transient, Code::SourceUnreachable, message, "");
    match error.kind.as_ref() {
        ErrorKind::Authentication { message, .. } => login_refused(message),
        ErrorKind::InvalidTlsConfig { .. } => Fault::new(
            Class::Halt,
            Code::SourceMisconfigured,
            "the TLS options of source.uri cannot be used",
            "check tlsCAFile and tlsCertificateKeyFile",
        ),
        ErrorKind::InvalidArgument { .. } => Fault::new(
            Class::Halt,
            Code::SourceMisconfigured,
            "the driver refused the call as invalid",
            OPTION,
        ),
        ErrorKind::Io(io) => match refused_certificate(&io.to_string()) {
            Some(why) => certificate(why),
            None => {
                unreachable(&format!("connection to mongodb failed: {}", why_away(&io.to_string())))
            }
        },
        ErrorKind::ServerSelection { message, .. } => match refused_certificate(message) {
            Some(why) => certificate(why),
            None => unreachable(&format!("no mongodb server can be used: {}", servers(message))),
        },
        ErrorKind::ConnectionPoolCleared { .. } => {
            unreachable("the connection to mongodb was lost")
        }
        ErrorKind::DnsResolve { .. } => {
            unreachable("the name of the mongodb server cannot be resolved")
        }
        ErrorKind::InvalidResponse { .. } | ErrorKind::BsonDeserialization(_) => Fault::new(
            Class::Unknown,
            Code::SourceUnreachable,
            "mongodb's answer could not be read",
            "check that source.uri points at a MongoDB server and not at something between",
        ),
        _ => Fault::new(
            Class::Unknown,
            Code::SourceUnreachable,
            "mongodb call failed in a way not known here",
            "",
        ),
    }
}

#[cfg(test)]
mod tests;
