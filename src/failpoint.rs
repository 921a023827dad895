//! Named places where a test can end the process or freeze it:
//! `TIDEMARK_FAILPOINT="apply.before_commit=abort@3"`; or only where certain bytes pass:
//! `"encode:poison=abort"`.
//!
//! Only in debug builds; in a release build every call is nothing.

/// Passes a failpoint. The n-th pass of the named one aborts the process, panics, or freezes the
/// whole process until it is told to go on (SIGCONT), as the variable says.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    hit_by(name, &[]);
}

/// The same; passed only with bytes in which those after the name's colon occur, if the variable
/// has any.
#[cfg(debug_assertions)]
pub fn hit_by(name: &str, bytes: &[u8]) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static PLAN: OnceLock<Option<(String, String, String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    let plan = PLAN.get_or_init(|| {
        let text = std::env::var("TIDEMARK_FAILPOINT").ok()?;
        let (name, action) = text.split_once('=')?;
        let (name, content) = name.split_once(':').unwrap_or((name, ""));
        let (action, count) = action.split_once('@').unwrap_or((action, "1"));
        Some((name.to_owned(), content.to_owned(), action.to_owned(), count.parse().ok()?))
    });
    let Some((planned, content, action, count)) = plan else { return };
    let is_there =
        || content.is_empty() || memchr::memmem::find(bytes, content.as_bytes()).is_some();
    if planned == name && is_there() && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count {
        match action.as_str() {
            "abort" => std::process::abort(),
            #[expect(clippy::panic, reason = "to see what a panic comes to")]
            "panic" => panic!("a test asked for this, with a value: {name}"),
            _ => {
                let id = std::process::id().to_string();
                let _ = std::process::Command::new("kill").args(["-STOP", &id]).status();
            }
        }
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn hit(_name: &str) {}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn hit_by(_name: &str, _bytes: &[u8]) {}
