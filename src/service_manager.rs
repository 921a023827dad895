//! What systemd is told of the process (`sd_notify`(3)): words in datagrams, to the socket that the
//! environment names. Nothing is told where none is named, and nobody who tells waits.

use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;

/// The status address is served: whoever waits for the service may go on. Ends a reload, too.
pub const READY: &str = "READY=1";
/// The configuration is read anew.
pub const RELOADING: &str = "RELOADING=1";
/// The process was told to stop.
pub const STOPPING: &str = "STOPPING=1";
/// The process's own loops turn.
pub const WATCHDOG: &str = "WATCHDOG=1";

/// Tells it. What is not heard is not told again: the watchdog's next word follows in a second.
pub fn tell(words: &str) {
    static MANAGER: OnceLock<Option<ServiceManager>> = OnceLock::new();
    let manager = MANAGER.get_or_init(|| {
        let name = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty())?;
        let manager = ServiceManager::at(&name);
        manager.inspect_err(|error| tracing::warn!("NOTIFY_SOCKET cannot be used: {error}")).ok()
    });
    if let Some(manager) = manager {
        manager.tell(words);
    }
}

#[derive(Debug)]
struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// By a path, or by a name without one, which begins with `@`.
    fn at(name: &str) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            #[cfg(target_os = "linux")]
            Some(name) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    fn tell(&self, words: &str) {
        if let Err(error) = self.socket.send_to_addr(words.as_bytes(), &self.address) {
            tracing::debug!("systemd is not told {words}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_by_path_and_by_name() {
        let name = format!("tidemark-notify-{}", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(&name);
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let ears = [
            (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name).unwrap()),
        ];
        for (name, ear) in ears {
            ServiceManager::at(&name).unwrap().tell(READY);
            let mut heard = [0; 64];
            let length = ear.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], READY.as_bytes(), "{name}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn who_does_not_listen_keeps_nobody_waiting() {
        let path = std::env::temp_dir().join(format!("tidemark-deaf-{}", uuid::Uuid::new_v4()));
        let deaf = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(&path.display().to_string()).unwrap();
        // Far more than the socket's queue holds.
        for _ in 0..10_000 {
            manager.tell(WATCHDOG);
        }
        drop(deaf);
        manager.tell(WATCHDOG);
        std::fs::remove_file(path).unwrap();
    }
}
