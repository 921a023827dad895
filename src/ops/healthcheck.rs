//! For container health checks: asks the daemon's own `/livez`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Whether the daemon behind `status.listen` is alive, within two seconds.
///
/// # Errors
/// Why it is not, in one clause.
pub async fn healthcheck(listen: SocketAddr) -> Result<(), String> {
    let address = reachable(listen);
    let request = crate::http_client::builder()
        .timeout(Duration::from_secs(2))
        .no_proxy()
        .build()
        .map_err(|_| "no HTTP client could be made".to_owned())?
        .get(format!("http://{address}/livez"));
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("http://{address}/livez answered {}", answer.status())),
        Err(_) => Err(format!("http://{address}/livez does not answer within 2s")),
    }
}

/// A daemon that listens on every address is asked on the loopback one.
const fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
