//! A resume token is opaque but for its time; hex is what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemark::model::position::{ClusterTime, Position, ResumeToken, hex, unhex};

fuzz_target!(|data: &[u8]| {
    assert_eq!(unhex(&hex(data)).as_deref(), Some(data));
    for text in [String::from_utf8_lossy(data).into_owned(), format!("82{}", hex(data))] {
        let token = ResumeToken::of_text(&text);
        if let Some(bytes) = unhex(&text) {
            assert_eq!(hex(&bytes), text.to_lowercase());
        }
        if !text.contains('\0') {
            assert_eq!(token.text(), text);
        }
        assert_eq!(ResumeToken::new(token.bytes()).ok(), Some(token));
    }
    if let Ok(token) = ResumeToken::new(&tidemark_fuzz::document(data)) {
        let position = Position::of(token.clone(), ClusterTime::new(1));
        assert!(token.cluster_time().is_none_or(|time| position.cluster_time == time));
        let _ = format!("{token:?} {}", position.cluster_time);
    }
});
