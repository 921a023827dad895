//! The one place where an error of the source gets its class. Table first, functions below.
//!
//! Codes: <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>;
//! `DocumentDB`'s where named. The same function serves errors at open and in mid-stream.

use mongodb::error::{Error, ErrorKind};

use super::unreachable::servers;
use crate::error::{Class, Code, Fault, refused_certificate, why_away};

struct Rule {
    code: i32,
    /// Text the message must contain for the rule to hold; empty = any.
    text: &'static str,
    class: Class,
    incident: Code,
    hint: &'static str,
}

const fn rule(
    code: i32,
    text: &'static str,
    class: Class,
    incident: Code,
    hint: &'static str,
) -> Rule {
    Rule { code, text, class, incident, hint }
}

const LOST: &str = "the stream's history is gone; a full resync of this stream repairs its table";
const ENABLE: &str =
    "enable change streams for the collection (Amazon DocumentDB: modifyChangeStreams)";
const GRANT: &str =
    "grant the user of source.uri `read` on the database, and `find` on local.oplog.rs";
const LOGIN: &str = "check the user, password and authSource in source.uri";
const REPLICA: &str = "change streams need a replica set";
const VIEW: &str =
    "a view or a time-series collection has no change stream: follow the collection it is made of";
const OPTION: &str =
    "the server does not know an option or stage; check post_image against the server's version";
const POST_IMAGE: &str =
    "post_image = \"required\" needs changeStreamPreAndPostImages on the collection";
const KEY: &str = "the change stream's filter removes _id, which resuming needs";

/// Specific rules stand before general ones; the first that matches decides.
const RULES: &[Rule] = &[
    rule(136, "modifychangestreams", Class::Halt, Code::SourceMisconfigured, ENABLE),
    rule(136, "position in capped collection", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(9, "invalid resume token", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(9, "", Class::Halt, Code::SourceMisconfigured, OPTION),
    rule(280, "resume token was not found", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(280, "_id", Class::Halt, Code::SourceMisconfigured, KEY),
    rule(286, "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(260, "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40576, "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40615, "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40647, "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(40648, "", Class::HistoryLost, Code::HistoryLost, LOST),
    rule(50811, "", Class::HistoryLost, Code::HistoryLost, LOST),
    // A shard was removed, and with it the part of the history that only it had.
    rule(464, "", Class::HistoryLost, Code::HistoryLost, LOST),
    // A read that is to be causally after a time the server has not heard of yet: it will.
    rule(
        72,
        "must not be greater than the current clustertime",
        Class::Transient,
        Code::SourceUnreachable,
        "",
    ),
    rule(13, "", Class::Halt, Code::SourceUnauthorised, GRANT),
    rule(18, "", Class::Halt, Code::SourceUnauthorised, LOGIN),
    rule(8000, "", Class::Halt, Code::SourceUnauthorised, LOGIN),
    rule(20, "", Class::Halt, Code::SourceMisconfigured, REPLICA),
    rule(166, "", Class::Halt, Code::SourceMisconfigured, VIEW),
    rule(167, "", Class::Halt, Code::SourceMisconfigured, VIEW),
    rule(40573, "", Class::Halt, Code::SourceMisconfigured, REPLICA),
    rule(40415, "", Class::Halt, Code::SourceMisconfigured, OPTION),
    rule(40324, "", Class::Halt, Code::SourceMisconfigured, OPTION),
    rule(47, "", Class::Halt, Code::SourceMisconfigured, POST_IMAGE),
    rule(
        10334,
        "",
        Class::Record,
        Code::DeadLetters,
        "the event is over 16 MB; it is fetched around",
    ),
    rule(26, "", Class::Transient, Code::SourceUnreachable, "the collection does not exist yet"),
];

/// Codes after which the same call may work later. 175 is a find cut by a drop, whose event decides
/// what follows.
const TRANSIENT: &[i32] = &[
    6, 7, 43, 50, 63, 70, 89, 91, 117, 133, 134, 150, 175, 189, 202, 216, 234, 237, 239, 246, 249,
    262, 317, 358, 9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 17287,
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
    if TRANSIENT.contains(&answer.code) || labelled || text.contains("too many cursors") {
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
    format!("mongodb answered {} {}: {sentence}", answer.code, answer.name)
}

fn certificate(why: &str) -> Fault {
    Fault::new(
        Class::Transient,
        Code::SourceUnreachable,
        format!("the certificate of mongodb is not accepted: {why}"),
        "check tlsCAFile in source.uri, and the name of the server",
    )
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
        ErrorKind::Authentication { .. } => {
            Fault::new(Class::Halt, Code::SourceUnauthorised, "mongodb refused the login", LOGIN)
        }
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
mod tests {
    use super::*;

    fn class(code: i32, message: &str) -> (Class, Code) {
        let fault = classify_answer(&ServerAnswer { code, name: "Name", message, labels: &[] });
        (fault.class, fault.code)
    }

    #[test]
    fn every_code_of_the_table_has_its_class() {
        let lost = (Class::HistoryLost, Code::HistoryLost);
        for (code, message) in [
            (286, "Resume of change stream was not possible"),
            (136, "CollectionScan died due to position in capped collection being deleted"),
            (260, "bad resume token"),
            (40576, "resume of change stream was not possible"),
            (40615, "the resume token was not found"),
            (9, "Invalid resume token"),
            (40648, "bad token"),
            (50811, "bad token"),
            (464, "cannot resume: a shard was removed"),
            (280, "cannot resume stream; the resume token was not found. {_data: \"82\"}"),
            (1, "the resume point may no longer be in the oplog"),
            (0, "Resume token does not exist"),
        ] {
            assert_eq!(class(code, message), lost, "{code} {message}");
        }
        let misconfigured = (Class::Halt, Code::SourceMisconfigured);
        assert_eq!(
            class(136, "modifyChangeStreams has not been run for this collection"),
            misconfigured
        );
        for code in [20, 166, 167, 40573, 40415, 40324, 9] {
            assert_eq!(class(code, "anything"), misconfigured, "{code}");
        }
        assert_eq!(class(280, "Encountered an event without an _id field"), misconfigured);
        for code in [13, 18, 8000] {
            assert_eq!(class(code, "anything"), (Class::Halt, Code::SourceUnauthorised), "{code}");
        }
        for code in TRANSIENT.iter().copied().chain([26]) {
            assert_eq!(
                class(code, "anything"),
                (Class::Transient, Code::SourceUnreachable),
                "{code}"
            );
        }
        assert_eq!(class(1, "Too many cursors open"), (Class::Transient, Code::SourceUnreachable));
        let ahead = "readConcern afterClusterTime value must not be greater than the current \
                     clusterTime. Requested clusterTime: { ts: Timestamp(2, 1) }";
        assert_eq!(class(72, ahead), (Class::Transient, Code::SourceUnreachable));
        assert_eq!(class(72, "anything else").0, Class::Unknown);
        assert_eq!(class(10334, "BSONObj size invalid").0, Class::Record);
        for code in [136, 280, 123_456] {
            assert_eq!(class(code, "something else").0, Class::Unknown, "{code}");
        }
    }

    #[test]
    fn a_label_makes_an_unknown_code_transient_but_never_hides_lost_history() {
        let labels = ["ResumableChangeStreamError".to_owned()];
        let of = |code| {
            classify_answer(&ServerAnswer { code, name: "", message: "", labels: &labels }).class
        };
        assert_eq!(of(99_999), Class::Transient);
        assert_eq!(of(286), Class::HistoryLost);
    }

    #[test]
    fn what_a_server_quotes_is_not_repeated() {
        for (message, told) in [
            (
                "not authorized on db to execute command { find: \"c\", filter: { _id: \"7654321\" \
                 } }",
                "not authorized on db to execute command",
            ),
            (
                "BSONObj size: 17 (0x11) is invalid. First element: _id: 7654321",
                "BSONObj size: 17 (0x11) is invalid.",
            ),
            ("no such key: \"Mary Smith\"", "no such key:"),
            ("id ObjectId('5f0000000000000000000001') is gone", "id"),
            ("bad token 826B068BD5000000012B042C0100296E, sorry", "bad token … sorry"),
            ("ids [7654321] were not found", "ids"),
        ] {
            let fault = classify_answer(&ServerAnswer {
                code: 13,
                name: "Unauthorized",
                message,
                labels: &[],
            });
            assert_eq!(fault.message, format!("mongodb answered 13 Unauthorized: {told}"));
        }
    }
}
