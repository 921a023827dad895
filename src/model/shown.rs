//! Text that others wrote (ids, names of fields, words of a server, reasons, actors), made fit to
//! be shown: what a terminal or a reader's eye would obey instead of showing becomes a visible
//! escape such as `\u{202e}`.

use std::fmt::Write;

/// Longer than any sentence of ours: what goes on beyond is data.
const SHOWN_MAX: usize = 1_000;

/// One line of bounded length.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(SHOWN_MAX));
    for (place, c) in text.chars().enumerate() {
        if place == SHOWN_MAX {
            out.push('…');
            break;
        }
        push(&mut out, c);
    }
    out
}

/// One line, however long: for what a person asked to see whole.
pub fn shown_whole(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        push(&mut out, c);
        out
    })
}

/// Lines of our own making: all but their ends.
pub fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown_whole).collect::<Vec<_>>().join("\n")
}

/// JSON that says the same and holds nothing of the kind: JSON itself escapes only the first 32
/// characters.
pub fn shown_json(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        if c != '\n' && is_obeyed(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
        out
    })
}

fn push(out: &mut String, c: char) {
    if is_obeyed(c) {
        out.extend(c.escape_unicode());
    } else {
        out.push(c);
    }
}

/// Whether a character does something other than show itself: controls (C0, C1, DEL), ends of
/// lines, directions, characters without width, fillers, selectors, tags.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_nothing_else_is_changed() {
        assert_eq!(shown("Zoë 李 🔴 a\\b"), "Zoë 李 🔴 a\\b");
        assert_eq!(
            shown("\u{1b}[2Ja\nb\u{202e}c\u{9b}d\u{7f}"),
            r"\u{1b}[2Ja\u{a}b\u{202e}c\u{9b}d\u{7f}"
        );
        assert_eq!(shown(&"x".repeat(2_000)).chars().count(), SHOWN_MAX + 1);
        assert_eq!(shown_lines("a\u{200b}\nb\r\n"), "a\\u{200b}\nb\\u{d}\n");
    }

    proptest! {
        #[test]
        fn no_text_gets_past(text in any::<String>()) {
            prop_assert!(!shown(&text).chars().any(is_obeyed));
            prop_assert!(!shown_whole(&text).chars().any(is_obeyed));
        }

        #[test]
        fn json_says_the_same(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let safe = shown_json(&json);
            prop_assert!(!safe.chars().any(|c| c != '\n' && is_obeyed(c)));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), [text]);
        }
    }
}
