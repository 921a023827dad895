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
    for code in TRANSIENT.iter().map(|(code, _)| *code).chain([26]) {
        assert_eq!(class(code, "anything"), (Class::Transient, Code::SourceUnreachable), "{code}");
    }
    assert_eq!(class(1, "Too many cursors open"), (Class::Transient, Code::SourceUnreachable));
    let ahead = "readConcern afterClusterTime value must not be greater than the current \
                 clusterTime. \
                 Requested clusterTime: { ts: Timestamp(2, 1) }";
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
fn a_code_has_one_name_and_is_called_by_it_where_the_server_names_none() {
    for rule in RULES {
        assert_eq!(name_of(rule.code), rule.name, "{}", rule.code);
    }
    for (code, name) in TRANSIENT {
        assert_eq!(name_of(*code), *name, "{code} is in one of the tables only");
    }
    let unnamed = ServerAnswer { code: 286, name: "", message: "gone", labels: &[] };
    let told = classify_answer(&unnamed).message;
    assert_eq!(told, "mongodb answered 286 ChangeStreamHistoryLost: gone");
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
        let fault =
            classify_answer(&ServerAnswer { code: 13, name: "Unauthorized", message, labels: &[] });
        assert_eq!(fault.message, format!("mongodb answered 13 Unauthorized: {told}"));
    }
}
