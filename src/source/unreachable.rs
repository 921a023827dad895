//! Why no server could be had: each one's host and reason, read from the driver's sentence, which
//! quotes more than that.

use crate::error::{refused_certificate, why_away};

/// `db1:27017: refused; db2:27017: no such name`. Nothing but hosts and reasons.
pub(super) fn servers(message: &str) -> String {
    let described = message.split("Address: ").skip(1);
    let mut each: Vec<String> =
        described.filter_map(|server| server.split_once(", ")).map(of).collect();
    // The driver has them in another order each time, and what is told again is to be the same.
    each.sort_unstable();
    if each.is_empty() { "it knows of none".to_owned() } else { each.join("; ") }
}

fn of((host, rest): (&str, &str)) -> String {
    let Some((_, error)) = rest.split_once("Error: ") else {
        let kind = rest.strip_prefix("Type: ").and_then(|rest| rest.split([',', ' ', '}']).next());
        return format!(
            "{host}: {}",
            kind.map_or("no answer", |kind| if kind == "Unknown" { "no answer" } else { kind })
        );
    };
    let why = refused_certificate(error).unwrap_or_else(|| why_away(error));
    format!("{host}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_named_with_its_reason_and_nothing_else() {
        let message = "Server selection timeout: No available servers. Topology: { Type: \
                       ReplicaSetNoPrimary, Set Name: rs0, Servers: [ { Address: a:1, Type: \
                       Unknown, Error: Kind: I/O error: Connection refused (os error 111), labels: \
                       {} }, { Address: b:2, Type: Unknown, Error: Kind: An error occurred during \
                       DNS resolution: failed to lookup address information: Name or service not \
                       known, labels: {} }, { Address: c:3, Type: RsSecondary, Average RTT: 1ms }, \
                       { Address: d:4, Type: Unknown, Error: Kind: I/O error: timed out }, { \
                       Address: e:5, Type: Unknown } ] }";
        assert_eq!(
            servers(message),
            "a:1: refused; b:2: no such name; c:3: RsSecondary; d:4: timed out; e:5: no answer"
        );
        assert_eq!(
            servers(
                "Servers: [ { Address: b:2, Type: Unknown }, { Address: a:1, Type: Unknown } ]"
            ),
            "a:1: no answer; b:2: no answer"
        );
        assert_eq!(
            servers("Server selection timeout: No available servers. Topology: { }"),
            "it knows of none"
        );
    }
}
