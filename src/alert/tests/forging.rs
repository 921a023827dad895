//! Nothing that others wrote forges a link, a mention or a line in Slack.

use proptest::prelude::*;
use serde_json::Value;

use super::{PACE, after, gap, look, start, wrong};
use crate::alert::channel::message::{Voice, reply, root};
use crate::alert::incident::book::Book;
use crate::alert::incident::life::{Ack, Incident, State, Transition};
use crate::error::Code;
use crate::model::shown::is_obeyed;

/// An incident with this text wherever one may come from elsewhere.
fn incident(text: &str, last: Transition) -> Incident {
    let mut book = Book::new(PACE);
    look(&mut book, start(), &wrong(Code::TargetFull, start()));
    let mut incident = book.incidents.remove(0);
    incident.summary = text.to_owned();
    incident.ack = Some(Ack { by: text.to_owned(), until: after(900) });
    (incident.detail.last, incident.detail.title) = (last, Some(text.to_owned()));
    incident.detail.doing = text.to_owned();
    (incident.detail.action, incident.detail.gap) = (Some(text.to_owned()), Some(gap()));
    if last == Transition::Resolved {
        (incident.state, incident.resolved_at) = (State::Resolved, Some(after(60)));
    }
    incident
}

fn blocks(body: &Value) -> impl Iterator<Item = &Value> {
    body["blocks"].as_array().unwrap().iter().flat_map(|block| {
        let elements = block["elements"].as_array().into_iter().flatten();
        elements.chain(block.get("text"))
    })
}

/// Every text of a message that Slack looks for markup in.
fn texts(body: &Value) -> Vec<String> {
    let marked_up = blocks(body).filter(|text| text["type"] == "mrkdwn").map(|text| &text["text"]);
    marked_up.chain([&body["text"]]).map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What is left of a text once the dates that tidemark makes are taken out.
fn without_dates(text: &str) -> String {
    let mut rest = text.to_owned();
    while let Some(at) = rest.find("<!date^") {
        let (before, after) = (rest[..at].to_owned(), &rest[at + 7..]);
        let stamp = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(shown) = stamp.strip_prefix("^{date_short_pretty} {time}|") else { return rest };
        let (time, left) = shown.split_once(" UTC>").unwrap_or((shown, ""));
        assert!(time.len() == 16 && time.starts_with("2026-11-2"), "{time}");
        rest = before + left;
    }
    rest
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<!channel>",
        "<!here|here>",
        "<https://evil.example|the runbook>",
        "<!date^0^{date_short_pretty} {time}^https://evil.example|2026-11-21 05:29 UTC>",
        "<!date^0^x|2026-11-21 05:29 UTC>",
        "&lt;!channel&gt;",
        "`",
        "|",
        "\n*You* do as I say",
        "\u{202e}",
        "\u{200b}",
        "&",
        " ",
        "a",
    ]);
    prop::collection::vec(prop_oneof![piece.prop_map(str::to_owned), any::<String>()], 0..60)
        .prop_map(|all| all.concat())
}

const LAST: [Transition; 6] = [
    Transition::Opened,
    Transition::Worsened,
    Transition::Acknowledged,
    Transition::Reminder,
    Transition::Reopened,
    Transition::Resolved,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn nothing_that_others_wrote_forges_a_link_a_mention_or_a_line(text in hostile()) {
        let voice = Voice { service: text.clone(), environment: text.clone() };
        for last in LAST {
            let told = |text: &str| {
                let incident = incident(text, last);
                [root(&voice, &incident, after(61)), reply(&voice, &incident, 2, after(61))]
            };
            for (body, plain) in told(&text).iter().zip(told("x")) {
                for (text, plain) in texts(body).iter().zip(texts(&plain)) {
                    prop_assert!(!without_dates(text).contains('<'), "{text}");
                    prop_assert!(!text.chars().any(|c| c != '\n' && is_obeyed(c)), "{text}");
                    prop_assert!(text.lines().count() <= plain.lines().count(), "{text}");
                    prop_assert!(text.chars().count() <= 3_000);
                }
                let header = body["blocks"][0]["text"]["text"].as_str().unwrap();
                prop_assert!(!header.chars().any(|c| c != '\n' && is_obeyed(c)), "{header}");
            }
        }
    }
}

#[test]
fn a_message_asks_slack_to_make_no_links_of_its_own() {
    let voice = Voice { service: "tidemark".into(), environment: "production".into() };
    let body = root(&voice, &incident("see evil.example", Transition::Opened), after(61));
    for text in blocks(&body) {
        assert!(text["type"] == "plain_text" || text["verbatim"] == true, "{text}");
    }
}
