//! Whatever bytes come as a reply, every item lies inside it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemark::model::event::Event;
use tidemark::source::Reply;

fuzz_target!(|data: &[u8]| {
    let document = tidemark_fuzz::document(data);
    let Ok(reply) = Reply::of_bytes(document.clone()) else { return };
    assert_eq!(reply.size(), document.len());
    let items: usize = reply.items().map(<[u8]>::len).sum();
    assert!(items <= document.len());
    for item in reply.items() {
        let _ = Event::parse(item);
    }
    assert!(reply.item(reply.len()).is_empty());
});
