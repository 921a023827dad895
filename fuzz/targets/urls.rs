//! Any connection string is used or refused, and what is shown of it is never its password.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mongodb::options::{ClientOptions, ServerAddress};
use tidemark::postgres::Target;
use tidemark::settings::{Secret, Settings};
use tidemark::source::Source;
use tidemark_fuzz::CANARY;

static DEFAULTS: LazyLock<Settings> = LazyLock::new(|| {
    Settings::load(&Default::default()).expect(
        "the defaults are a \
                                                                 configuration",
    )
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Some((user, rest)) = text.split_once('~') else { return };
    let mut settings = DEFAULTS.clone();
    // A password is what stands between the first colon and the last @ before the first slash.
    if user.contains([':', '/', '@', '?', '#']) {
        return;
    }
    settings.target.url = Secret::new(format!("postgres://{user}:{CANARY}@{rest}"));
    settings.source.uri = Secret::new(format!("mongodb://{user}:{CANARY}@{rest}"));
    match Target::new(&settings) {
        Ok(target) => quiet(&target.shown()),
        Err(fault) => quiet(&format!("{fault} {fault:?}")),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let uri = settings.source.uri.expose();
        let is_whole = |rest: &str| {
            rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
        };
        if !uri.split('%').skip(1).all(is_whole) {
            // The driver panics at some of these; it must not come to it.
            quiet(&Source::new(&settings).await.expect_err("half an escape").to_string());
            return;
        }
        // Nothing of the world is asked: a client begins to look for its servers as soon as it is
        // made.
        let parsed = ClientOptions::parse(settings.source.uri.expose()).await;
        let hosts = parsed.map(|options| options.hosts).unwrap_or_default();
        let here = |host: &ServerAddress| {
            matches!(host, ServerAddress::Tcp { host, .. } if host == "127.0.0.1")
        };
        if !hosts.iter().all(here) {
            return;
        }
        match Source::new(&settings).await {
            Ok(source) => quiet(source.shown()),
            Err(fault) => quiet(&format!("{fault} {fault:?}")),
        }
    });
});

fn quiet(text: &str) {
    assert!(!text.contains(CANARY), "{text}");
}
