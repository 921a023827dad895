//! What `source.uri` says of how the source is reached, judged without asking anybody.
//!
//! Every option the driver knows is honoured, idle or refused by one table. A host beyond this
//! machine is spoken to over verified TLS alone, unless `source.insecure` says not to. No message
//! repeats what may be a secret.

use std::path::Path;

use mongodb::options::{ClientOptions, ConnectionString, HostInfo, ServerAddress, Tls};

use super::login;
use super::uri::{pairs, refuse};
use crate::error::Fault;
use crate::settings::{SourceSettings, authorities, stays_here};

/// What is done with an option.
#[derive(Debug, Clone, Copy)]
enum Effect {
    Honoured,
    /// Taken with this value alone, which asks for what tidemark does anyhow; any other would be
    /// without effect, for the reason given.
    Only(&'static str, &'static str),
    /// Taken, since connection strings are copied with it; `check` says why it changes nothing.
    Idle(&'static str),
    /// Why it would be without effect.
    Refused(&'static str),
}

use Effect::{Honoured, Idle, Only, Refused};

const PRIMARY: &str = "reads go to the primary, whose history is the one that is watched";
const DEADLINES: &str = "every call has a deadline of tidemark's own";
const RETRIES: &str = "what fails is tried again by tidemark, which counts and tells it";
const COMPRESSION: &str = "compression is not compiled in";
const PROXY: &str = "proxies are not compiled in";

/// Every option of the driver, and those of other drivers that people copy, in lower case.
const OPTIONS: &[(&str, Effect)] = &[
    ("appname", Honoured),
    ("authmechanism", Honoured),
    ("authsource", Honoured),
    ("authmechanismproperties", Honoured),
    ("compressors", Refused(COMPRESSION)),
    ("connecttimeoutms", Honoured),
    ("directconnection", Honoured),
    ("heartbeatfrequencyms", Honoured),
    ("journal", Honoured),
    ("loadbalanced", Honoured),
    ("localthresholdms", Refused(PRIMARY)),
    ("maxidletimems", Honoured),
    ("maxstalenessseconds", Refused(PRIMARY)),
    ("maxpoolsize", Honoured),
    ("minpoolsize", Honoured),
    ("maxconnecting", Honoured),
    ("proxyhost", Refused(PROXY)),
    ("proxyport", Refused(PROXY)),
    ("proxyusername", Refused(PROXY)),
    ("proxypassword", Refused(PROXY)),
    ("readconcernlevel", Only("majority", "what a majority has not confirmed is never read")),
    ("readpreference", Only("primary", PRIMARY)),
    ("readpreferencetags", Refused(PRIMARY)),
    ("replicaset", Honoured),
    ("retrywrites", Idle("only a heartbeat document is ever written, again at each interval")),
    ("retryreads", Idle(RETRIES)),
    ("servermonitoringmode", Honoured),
    ("serverselectiontimeoutms", Honoured),
    ("sockettimeoutms", Refused(DEADLINES)),
    ("timeoutms", Refused(DEADLINES)),
    ("srvmaxhosts", Honoured),
    ("srvservicename", Honoured),
    ("ssl", Honoured),
    ("tls", Honoured),
    ("tlsinsecure", Honoured),
    ("tlsallowinvalidcertificates", Honoured),
    (
        "tlsallowinvalidhostnames",
        Refused("this client verifies the name whenever it verifies the authority"),
    ),
    ("tlscafile", Honoured),
    ("tlscertificatekeyfile", Honoured),
    (
        "tlscertificatekeyfilepassword",
        Refused("the key of a client certificate must not be encrypted"),
    ),
    ("tlsdisablecertificaterevocationcheck", Refused("lists of revoked certificates are not read")),
    ("tlsdisableocspendpointcheck", Refused("lists of revoked certificates are not read")),
    ("uuidrepresentation", Refused("binary values are shown as they are stored")),
    ("w", Honoured),
    ("waitqueuetimeoutms", Refused(DEADLINES)),
    ("wtimeoutms", Honoured),
    ("zlibcompressionlevel", Refused(COMPRESSION)),
    ("adaptiveretries", Refused(RETRIES)),
    ("maxadaptiveretries", Refused(RETRIES)),
    ("enableoverloadretargeting", Refused(RETRIES)),
];

/// A URI that can be used.
pub(super) struct Options {
    pub uri: ConnectionString,
    /// Options that change nothing, each with why.
    pub idle: Vec<String>,
}

impl Options {
    /// # Errors
    /// What is wrong with the URI, without its secrets.
    pub fn read(source: &SourceSettings) -> Result<Self, Fault> {
        let text = source.uri.expose();
        if !escapes_are_whole(text) {
            return refuse("has a % that is not followed by two hex digits: write %25");
        }
        let mut idle = Vec::new();
        for (name, value) in pairs(text) {
            idle.extend(judge(&name, value)?);
        }
        let Ok(mut uri) = ConnectionString::parse(text) else { return refuse(what_is_wrong(text)) };
        login::judge(&uri, &source.password_command)?;
        guard(&mut uri, source.insecure)?;
        Ok(Self { uri, idle })
    }

    /// The hosts or the SRV name, for messages: never the user or password.
    pub fn shown(&self) -> String {
        match &self.uri.host_info {
            HostInfo::HostIdentifiers(hosts) => {
                hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
            HostInfo::DnsRecord(name) => name.clone(),
            _ => String::new(),
        }
    }

    /// Whether the options go together: the driver says so of hosts that are known.
    pub async fn agree(self) -> Result<(), Fault> {
        let mut uri = self.uri;
        if let HostInfo::DnsRecord(host) = &uri.host_info {
            uri.host_info = HostInfo::HostIdentifiers(vec![ServerAddress::Tcp {
                host: host.clone(),
                port: None,
            }]);
        }
        ClientOptions::parse(uri)
            .await
            .map(drop)
            .or_else(|_| refuse("has options that do not go together"))
    }

    /// What of the wire is verified, in words for a person.
    pub const fn guarded(&self) -> &'static str {
        match &self.uri.tls {
            Some(Tls::Enabled(options))
                if matches!(options.allow_invalid_certificates, Some(true)) =>
            {
                "TLS; nobody verified: anyone may stand in for it"
            }
            Some(Tls::Enabled(_)) => "TLS 1.2 or later; name and authority verified",
            _ => "no TLS",
        }
    }

    /// How it is logged in to, where that is by no password.
    pub fn login(&self) -> Option<&'static str> {
        login::described(&self.uri)
    }

    /// Whether the hosts are known without asking DNS for a record.
    pub const fn is_plain(&self) -> bool {
        matches!(self.uri.host_info, HostInfo::HostIdentifiers(_))
    }
}

/// Whether the URI names a client certificate, whose file may be replaced at any time.
pub(super) fn has_client_certificate(uri: &str) -> bool {
    pairs(uri).any(|(name, _)| name == "tlscertificatekeyfile")
}

/// Takes or refuses an option with its value. Returns a sentence for `check` if the option is taken
/// and changes nothing.
fn judge(name: &str, value: &str) -> Result<Option<String>, Fault> {
    match OPTIONS.iter().find(|(known, _)| *known == name) {
        Some((_, Honoured)) => Ok(None),
        Some((_, Only(wanted, _))) if value.eq_ignore_ascii_case(wanted) => Ok(None),
        Some((name, Only(wanted, why))) => refuse(format_args!(
            "has the option {name} other than {wanted}, which is without effect: {why}"
        )),
        Some((name, Idle(why))) => Ok(Some(format!("{name}: {why}"))),
        Some((name, Refused(why))) => {
            refuse(format_args!("has the option {name}, which is without effect: {why}"))
        }
        None => refuse("has an option after ? that the driver does not know"),
    }
}

/// Sees to it that a host beyond this machine is spoken to over TLS and is verified. Authorities
/// that the URI gives are then the only ones; if it gives none, they are the machine's own.
fn guard(uri: &mut ConnectionString, insecure: bool) -> Result<(), Fault> {
    let far = match &uri.host_info {
        HostInfo::HostIdentifiers(hosts) => hosts
            .iter()
            .any(|host| matches!(host, ServerAddress::Tcp { host, .. } if !stays_here(host))),
        _ => true,
    };
    let Some(Tls::Enabled(options)) = &mut uri.tls else {
        if far && !insecure {
            return refuse(
                "has no tls=true, and a host that is not this machine; source.insecure = true \
                 allows it",
            );
        }
        return Ok(());
    };
    let verified = options.allow_invalid_certificates != Some(true);
    if far && !verified && !insecure {
        return refuse(
            "takes any certificate (tlsInsecure, tlsAllowInvalidCertificates) of a host that is \
             not this machine; source.insecure = true allows it",
        );
    }
    if let Some(path) = &options.cert_key_file_path {
        let pem = read("tlsCertificateKeyFile", path)?;
        if !pem.contains(CERTIFICATE)
            || !pem.contains("PRIVATE KEY-----")
            || pem.contains("ENCRYPTED")
        {
            return refuse(
                "has a tlsCertificateKeyFile that does not hold a certificate and its key, not \
                 encrypted",
            );
        }
    }
    if !verified {
        return Ok(());
    }
    match &options.ca_file_path {
        Some(path) if read("tlsCAFile", path)?.contains(CERTIFICATE) => {}
        Some(_) => return refuse("has a tlsCAFile that holds no certificate"),
        None => options.ca_file_path = authorities(),
    }
    if options.ca_file_path.is_none() {
        return refuse(
            "has no tlsCAFile, and this machine has no file of public authorities: give one of the \
             two",
        );
    }
    Ok(())
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

fn read(name: &str, path: &Path) -> Result<String, Fault> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => refuse(format_args!(
            "has {name} {}, which cannot be read: {}",
            path.display(),
            error.kind()
        )),
    }
}

/// Whether two hex digits follow each `%`. The driver panics where a character of several bytes
/// does, and a panic's text quotes what it was in: the password.
fn escapes_are_whole(uri: &str) -> bool {
    let is_whole =
        |rest: &[u8]| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    uri.as_bytes().split(|&byte| byte == b'%').skip(1).all(is_whole)
}

/// Which part of a URI the driver does not take: its own words quote the part. Options are asked
/// about one by one, beside what some of them need.
fn what_is_wrong(uri: &str) -> String {
    let (before, _) = uri.split_once('?').unwrap_or((uri, ""));
    let Some((scheme, rest)) = before.split_once("://") else { return "has no ://".to_owned() };
    let (login, place) =
        rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let takes = |uri: &str| ConnectionString::parse(uri).is_ok();
    if !takes(&format!("{scheme}://{place}")) {
        return "has hosts that cannot be used: host:port,host:port, and one name without a port \
                after mongodb+srv://"
            .to_owned();
    }
    if login.is_some_and(|login| !takes(&format!("{scheme}://{login}@{place}"))) {
        return "has a user or password with a character that has to be escaped: one of : / ? # [ ] \
                @ %".to_owned();
    }
    let by_aws = pairs(uri).any(|(name, value)| name == "authmechanism" && value == login::AWS);
    if by_aws && login.is_some_and(|login| !login.contains(':')) {
        return "logs in by MONGODB-AWS with a user and no password: give the access key as both, \
                or none"
            .to_owned();
    }
    for (name, value) in pairs(uri) {
        let beside = if name.starts_with("srv") {
            "mongodb+srv://user:word@a.example.org"
        } else {
            "mongodb://user:word@h"
        };
        if !takes(&format!("{beside}/?{name}={value}"))
            && let Some((name, _)) = OPTIONS.iter().find(|(known, _)| *known == name)
        {
            return format!("has a value of the option {name} that cannot be used");
        }
    }
    "has options that do not go together, or one twice".to_owned()
}

#[cfg(test)]
mod tests;
