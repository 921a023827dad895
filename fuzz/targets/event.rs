//! Whatever bytes come as a change event, it is read or refused; what is read is what the `bson`
//! crate reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemark::model::event::Event;

fuzz_target!(|data: &[u8]| {
    let document = tidemark_fuzz::document(data);
    let Ok(event) = Event::parse(&document) else { return };
    assert!(!event.operation.changes_a_row() || event.id.is_some());
    if let Ok(token) = event.token() {
        let _ = (token.text(), token.cluster_time());
    }
    if let Some(found) = event.document {
        found.elements().for_each(drop);
    }
});
