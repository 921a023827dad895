//! Who may read the status address, in words: for `check`, and for the log at the start.

use crate::settings::Settings;

/// Whether anybody who reaches it may.
pub const fn is_open(settings: &Settings) -> bool {
    !settings.status.listen.ip().is_loopback() && settings.status.token.is_empty()
}

/// What to do about that.
pub const REMEDY: &str = "set status.token or status.token_file, or listen on loopback";

/// Who may, in one clause.
pub fn describe(settings: &Settings) -> String {
    let listen = settings.status.listen;
    let who = match (listen.ip().is_loopback(), settings.status.token.is_empty()) {
        (_, false) => "asks for the token",
        (true, true) => "this machine only",
        (false, true) => {
            "beyond loopback, and asks for no token: whoever reaches it reads what is followed"
        }
    };
    format!("{listen}, {who}")
}
