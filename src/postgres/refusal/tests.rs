use super::*;

fn answer(state: &str) -> Answer<'_> {
    let message = "relation about \"Mary Smith\"";
    Answer {
        state,
        message,
        fatal: false,
        inside: false,
        raised: false,
        constraint: None,
        column: None,
    }
}

#[test]
fn every_listed_state_has_its_class_and_says_whose_trouble_it_can_be() {
    use Class::{Halt, Transient, Unknown};
    use Whose::{End, Lock, Row, Table, Time};
    for (state, class, whose) in [
        ("08006", Transient, End),
        ("40001", Transient, End),
        ("40P01", Transient, End),
        ("55P03", Transient, Lock),
        ("53300", Transient, End),
        ("57014", Transient, Time),
        ("57P01", Transient, End),
        ("57P02", Transient, End),
        ("57P03", Transient, End),
        ("25P03", Transient, End),
        ("53200", Transient, Table),
        ("28P01", Halt, End),
        ("28000", Halt, End),
        ("3D000", Halt, End),
        ("42501", Halt, Table),
        ("42P01", Halt, Table),
        ("42703", Halt, Table),
        ("42804", Halt, Table),
        ("0A000", Halt, Table),
        ("55000", Halt, Table),
        ("53100", Halt, End),
        ("25006", Transient, End),
        ("26000", Halt, End),
        ("42P05", Halt, End),
        ("21000", Halt, Row),
        ("22P02", Halt, Row),
        ("23514", Halt, Row),
        ("54000", Halt, Row),
        ("P0001", Halt, Row),
        ("XX000", Unknown, Row),
        ("XX002", Unknown, Table),
        ("44000", Unknown, Row),
    ] {
        let fault = answer(state).fault();
        assert_eq!(fault.class, class, "{state}");
        assert_eq!(answer(state).refusal().map_or(End, |refusal| refusal.whose), whose, "{state}");
    }
    assert!(
        answer("42P01").fault().message.contains("Mary"),
        "a text of Postgres's own about itself"
    );
}

#[test]
fn what_only_a_pooler_answers_is_told_from_a_wire_that_breaks() {
    let refuses = |message| Answer { message, ..answer("08P01") }.fault();
    for message in [
        "unsupported startup parameter: options",
        "transaction blocks not allowed in statement pooling mode",
    ] {
        let fault = refuses(message);
        assert_eq!(fault.class, Class::Halt, "{message}");
        assert!(
            fault.message.starts_with("a pooler stands between") && fault.message.contains(message)
        );
    }
    assert_eq!(refuses("query_wait_timeout").class, Class::Transient);
}

#[test]
fn no_text_is_repeated_that_may_hold_a_value_whatever_state_its_author_chose() {
    for state in ["22P02", "23514", "54000", "21000", "P0001", "XX000", "0A000", "72000", "ZZ999"] {
        assert!(!answer(state).fault().message.contains("Mary"), "{state}");
    }
    for state in ["42501", "57014", "53100", "08006", "40001", "57P01"] {
        let inside = Answer { inside: true, ..answer(state) };
        assert!(!inside.fault().message.contains("Mary"), "{state}");
        let raised =
            Answer { raised: true, constraint: Some("Mary"), column: Some("Mary"), ..inside };
        assert!(!raised.fault().message.contains("Mary"), "{state}");
        assert_eq!(raised.refusal().map(|refusal| refusal.whose), Some(Whose::Row), "{state}");
    }
    let ended = Answer { fatal: true, inside: true, ..answer("57P01") };
    assert!(ended.refusal().is_none() && ended.ends_the_session());
}
