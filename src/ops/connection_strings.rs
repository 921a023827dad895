//! Whether both ends' connection strings can be used: judged as `run` would, without asking
//! anybody.

use crate::error::Fault;
use crate::settings::{Problem, Problems, Secret, Settings};

/// # Errors
/// What is wrong, each with its key and where the value came from. No value is repeated.
pub async fn judge(settings: &Settings) -> Result<(), Problems> {
    let source = crate::source::judge(settings).await.err();
    let target = crate::postgres::judge(settings).err();
    let problems = [
        source.map(|fault| problem("source.uri", &settings.source.uri, &fault)),
        target.map(|fault| problem("target.url", &settings.target.url, &fault)),
    ];
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// The faults begin with the key, since they are read elsewhere, too.
fn problem(key: &str, value: &Secret, fault: &Fault) -> Problem {
    let what = fault.message.strip_prefix(key).unwrap_or(&fault.message).trim_start();
    let message =
        if fault.hint.is_empty() { what.to_owned() } else { format!("{what}; {}", fault.hint) };
    Problem { key: key.to_owned(), layer: value.place().to_owned(), message }
}
