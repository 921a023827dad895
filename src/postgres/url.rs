//! `target.url` taken apart, since sqlx knows neither several hosts nor which of its parameters it
//! passes over. Nothing is taken in silence from a `PG*` variable. No message repeats what may be a
//! secret.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::error::{Class, Code, Fault};

const HINT: &str = "write target.url as postgres://user:password@host:5432/database";

/// Every parameter that sqlx or libpq knows, and what is done with it.
const PARAMETERS: &[(&str, Parameter)] = &[
    ("sslmode", Parameter::Honoured),
    ("sslrootcert", Parameter::Honoured),
    ("sslcert", Parameter::Honoured),
    ("sslkey", Parameter::Honoured),
    ("host", Parameter::Honoured),
    ("hostaddr", Parameter::Honoured),
    ("port", Parameter::Honoured),
    ("dbname", Parameter::Honoured),
    ("user", Parameter::Honoured),
    ("password", Parameter::Honoured),
    ("options", Parameter::Honoured),
    ("target_session_attrs", Parameter::Honoured),
    ("application_name", Parameter::Refused("sessions go by the name in the key `service`")),
    (
        "fallback_application_name",
        Parameter::Refused("sessions go by the name in the key `service`"),
    ),
    ("connect_timeout", Parameter::Refused("every call has a deadline of tidemark's own")),
    ("tcp_user_timeout", Parameter::Refused("every call has a deadline of tidemark's own")),
    ("keepalives", Parameter::Refused("every call has a deadline of tidemark's own")),
    ("keepalives_idle", Parameter::Refused("every call has a deadline of tidemark's own")),
    ("keepalives_interval", Parameter::Refused("every call has a deadline of tidemark's own")),
    ("keepalives_count", Parameter::Refused("every call has a deadline of tidemark's own")),
    ("statement-cache-capacity", Parameter::Refused("it is chosen by tidemark")),
    ("client_encoding", Parameter::Refused("it is UTF8")),
    ("load_balance_hosts", Parameter::Refused("hosts are tried in the order given")),
    ("passfile", Parameter::Refused("use target.url_file or target.password_command")),
    ("service", Parameter::Refused("no service file is read")),
    ("sslpassword", Parameter::Refused("a key of a client certificate must not be encrypted")),
    ("sslcrl", Parameter::Refused("lists of revoked certificates are not read")),
    ("sslcrldir", Parameter::Refused("lists of revoked certificates are not read")),
    ("sslcertmode", Parameter::Refused("a client certificate is sent if one is given")),
    ("sslnegotiation", Parameter::Refused("TLS is asked for in the usual way")),
    ("sslsni", Parameter::Refused("the server is always told the name")),
    ("sslcompression", Parameter::Refused("TLS is not compressed")),
    ("ssl_min_protocol_version", Parameter::Refused("TLS 1.2 is the least there is")),
    ("ssl_max_protocol_version", Parameter::Refused("the newest TLS is taken that both know")),
    ("channel_binding", Parameter::Refused("it is not made; verify-full binds the name instead")),
    ("require_auth", Parameter::Refused("the way to log in is the server's choice")),
    ("gssencmode", Parameter::Refused("GSSAPI is not compiled in")),
    ("krbsrvname", Parameter::Refused("GSSAPI is not compiled in")),
    ("gsslib", Parameter::Refused("GSSAPI is not compiled in")),
    ("gssdelegation", Parameter::Refused("GSSAPI is not compiled in")),
    ("replication", Parameter::Refused("sessions are ordinary ones")),
    ("requirepeer", Parameter::Refused("the socket's owner is not asked for")),
];

#[derive(Debug, Clone, Copy)]
enum Parameter {
    Honoured,
    /// Why it would be without effect.
    Refused(&'static str),
}

/// Says what is wrong with `target.url`.
pub(super) fn refuse<T>(what: impl std::fmt::Display) -> Result<T, Fault> {
    Err(Fault::new(Class::Halt, Code::TargetUnreachable, format!("target.url {what}"), HINT))
}

/// The parts of a URL, decoded.
pub(super) struct Url {
    user: Option<String>,
    pub password: Option<String>,
    /// As written, separated by commas.
    authority: String,
    database: Option<String>,
    parameters: Vec<(&'static str, String)>,
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let Some((_, rest)) = text.split_once("://") else { return refuse("has no ://") };
        if rest.contains('#') {
            return refuse("has a #, which has to be written %23");
        }
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = before.split_once('/').unwrap_or((before, ""));
        let (login, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "password")?)),
            None => (login, None),
        };
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let mut url = Self {
            user: given(decoded(user, "user")?),
            password,
            authority: authority.to_owned(),
            database: given(decoded(database, "database")?),
            parameters: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            url.add(pair)?;
        }
        url.take_parameters();
        Ok(url)
    }

    fn add(&mut self, pair: &str) -> Result<(), Fault> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match PARAMETERS.iter().find(|(known, _)| *known == name) {
            Some((name, Parameter::Honoured)) if self.parameter(name).is_some() => {
                refuse(format_args!("has the parameter {name} twice"))
            }
            Some((name, Parameter::Honoured)) => {
                self.parameters.push((*name, decoded(value, name)?));
                Ok(())
            }
            Some((name, Parameter::Refused(why))) => {
                refuse(format_args!("has the parameter {name}, which is without effect: {why}"))
            }
            None => {
                let honoured = PARAMETERS
                    .iter()
                    .filter(|(_, parameter)| matches!(parameter, Parameter::Honoured));
                let honoured: Vec<_> = honoured.map(|(name, _)| *name).collect();
                refuse(format_args!(
                    "has a parameter after ? that is not one of {}",
                    honoured.join(", ")
                ))
            }
        }
    }

    /// A parameter wins over what stands before the `?`, as with libpq.
    fn take_parameters(&mut self) {
        let mut take = |name, part: &mut Option<String>| {
            if let Some(at) = self.parameters.iter().position(|(given, _)| *given == name) {
                *part = Some(self.parameters.swap_remove(at).1);
            }
        };
        take("user", &mut self.user);
        take("password", &mut self.password);
        take("dbname", &mut self.database);
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Where to go, in the order given.
    pub fn places(&self) -> Result<Vec<Place>, Fault> {
        if let Some(attributes) = self.parameter("target_session_attrs")
            && !["read-write", "primary"].contains(&attributes)
        {
            return refuse(
                "has target_session_attrs other than read-write: the host that takes writes is \
                 looked for",
            );
        }
        let list = |name| {
            self.parameter(name).map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let written = self.authority.split(',').filter(|place| !place.is_empty());
        let written = written.map(host_and_port).collect::<Result<Vec<_>, _>>()?;
        let hosts = match (list("hostaddr"), list("host")) {
            (Some(_), Some(_)) => {
                return refuse(
                    "has both host and hostaddr: the name that is verified is the one in host",
                );
            }
            (Some(addresses), None)
                if addresses.iter().any(|address| address.parse::<IpAddr>().is_err()) =>
            {
                return refuse("has a hostaddr that is no address");
            }
            (Some(hosts), None) | (None, Some(hosts)) => hosts,
            (None, None) => written.iter().map(|(host, _)| host.clone()).collect(),
        };
        let ports = match list("port") {
            Some(ports) => ports.iter().map(|port| number(port)).collect::<Result<Vec<_>, _>>()?,
            None if written.len() == hosts.len() => written.iter().map(|(_, port)| *port).collect(),
            None => vec![written.first().map_or(DEFAULT_PORT, |(_, port)| *port)],
        };
        if hosts.is_empty() || hosts.iter().any(String::is_empty) {
            return refuse(
                "names no host: write localhost, or the folder of the socket as \
                 ?host=/var/run/postgresql",
            );
        }
        if ports.len() != 1 && ports.len() != hosts.len() {
            return refuse("has another number of ports than of hosts");
        }
        let place = |(host, port)| Place { host, port };
        Ok(hosts.into_iter().zip(ports.into_iter().cycle()).map(place).collect())
    }

    /// All but where to go and how to get there unseen.
    pub fn base(&self) -> Result<PgConnectOptions, Fault> {
        refuse_variables(self.user.is_some())?;
        let mut options = PgConnectOptions::new_without_pgpass();
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        let user = options.get_username().to_owned();
        options = options.database(self.database.as_ref().unwrap_or(&user));
        // Set in any case: else it is what PGPASSWORD says.
        options = options.password(self.password.as_deref().unwrap_or_default());
        let of_session = settings_of_session(self.parameter("options").unwrap_or_default())?;
        // A pooler refuses even none, if they are sent.
        Ok(if of_session.is_empty() { options } else { options.options(of_session) })
    }
}

/// Of these the library takes in silence what cannot be taken back from it.
fn refuse_variables(user_is_given: bool) -> Result<(), Fault> {
    let mut names = vec!["PGOPTIONS", "PGSSLCERT", "PGSSLKEY"];
    names.extend((!user_is_given).then_some("PGUSER"));
    match names.into_iter().find(|name| std::env::var_os(name).is_some()) {
        Some(name) => {
            let message =
                format!("the environment variable {name} is set, and would act beside target.url");
            let hint = "unset it; what it says belongs into target.url";
            Err(Fault::new(Class::Halt, Code::TargetUnreachable, message, hint))
        }
        None => Ok(()),
    }
}

const DEFAULT_PORT: u16 = 5432;

pub(super) struct Place {
    host: String,
    port: u16,
}

impl Place {
    /// The host to verify; none behind a socket.
    pub fn host(&self) -> Option<&str> {
        Some(self.host.as_str()).filter(|host| !host.starts_with('/'))
    }

    pub fn of(&self, options: PgConnectOptions) -> PgConnectOptions {
        match self.host() {
            Some(host) => options.host(host),
            None => options.socket(&self.host),
        }
        .port(self.port)
    }
}

/// `host`, `host:port`, `[::1]:port`, or a folder written `%2Fvar%2Frun`.
fn host_and_port(text: &str) -> Result<(String, u16), Fault> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { DEFAULT_PORT } else { number(port)? };
    Ok((decoded(host, "host")?, port))
}

fn number(port: &str) -> Result<u16, Fault> {
    match port.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => refuse(
            "has a port that is no number from 1 to 65535: a :, / or @ in a user or password has \
             to be escaped",
        ),
    }
}

/// `-c name=value` and `--name=value`, of which libpq's `options` is made.
fn settings_of_session(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut words = text.split_ascii_whitespace();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let pair = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(pair), _) => Some(pair),
            (None, Some("")) => words.next(),
            (None, pair) => pair,
        };
        match pair.and_then(|pair| pair.split_once('=')) {
            Some((name, value)) => settings.push((name.to_owned(), value.to_owned())),
            None => return refuse("has options that are not written -c name=value"),
        }
    }
    Ok(settings)
}

fn decoded(text: &str, what: &str) -> Result<String, Fault> {
    let is_whole = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if text.split('%').skip(1).all(is_whole) && !decoded.contains('\0') => {
            Ok(decoded.into_owned())
        }
        _ => refuse(format_args!(
            "has a {what} that is not escaped as it has to be: % is written %25"
        )),
    }
}

/// How far a host is to be trusted, as `sslmode` is written.
pub(super) fn mode(text: &str) -> Result<PgSslMode, Fault> {
    Ok(match text {
        "disable" => PgSslMode::Disable,
        "prefer" => PgSslMode::Prefer,
        "require" => PgSslMode::Require,
        "verify-ca" => PgSslMode::VerifyCa,
        "verify-full" => PgSslMode::VerifyFull,
        "allow" => {
            return refuse("has sslmode=allow, which this client does not know: write prefer");
        }
        _ => {
            return refuse(
                "has an sslmode that is not one of disable, prefer, require, verify-ca, \
                 verify-full",
            );
        }
    })
}
