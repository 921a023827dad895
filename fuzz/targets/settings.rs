//! Any configuration is taken or refused with every problem named, and no message tells a secret.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use tidemark::settings::{Origin, Settings};
use tidemark_fuzz::CANARY;

/// Secrets, by the names of their variables; the fuzzer's first line is about these.
const SECRETS: [&str; 5] = [
    "SOURCE__URI",
    "TARGET__URL",
    "ALERT__SLACK__BOT_TOKEN",
    "ALERT__SENTRY__DSN",
    "ALERT__HEARTBEAT__URL",
];

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if text.contains(CANARY) {
        return;
    }
    let mut parts = text.splitn(3, '\n');
    let [before, after] = [(); 2].map(|()| parts.next().unwrap_or_default());
    let toml = parts.next().unwrap_or_default();
    let (lines, variables): (Vec<&str>, Vec<&str>) =
        toml.lines().partition(|line| !line.starts_with("TIDEMARK__"));
    let secret = format!("{before}{CANARY}{after}");
    let secrets = SECRETS.map(|name| (format!("TIDEMARK__{name}"), secret.clone()));
    // The same in a file that may be no TOML at all: parsers quote the line they stumble over.
    let quoted = format!("source.uri = \"{secret}\n{}", lines.join("\n"));
    for (text, with) in [(lines.join("\n"), &secrets[..]), (quoted, &[])] {
        let file = PathBuf::from(format!("/dev/shm/tidemark-fuzz-{}.toml", std::process::id()));
        std::fs::write(&file, text).expect("a file in memory");
        let given = variables.iter().filter_map(|line| line.split_once('='));
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = given.chain(with.iter().cloned()).collect();
        let told =
            match Settings::load(&Origin { file: Some(file), variables, ..Origin::default() }) {
                Ok(settings) => format!("{settings:?}{}", settings.print()),
                Err(problems) => problems.to_string(),
            };
        assert!(!told.contains(CANARY), "{told}");
    }
});
