//! Which requests are answered: those that name the address by a name of its own and carry the
//! token, where one is configured. The probes are answered without either. Pure, but for the
//! hand-over to the handlers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

/// What tells nothing but whether the process is well.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// What a request must name and carry to be answered.
#[derive(Clone)]
pub struct Access {
    /// Says the token as it is now; there is none if that is empty.
    token: Arc<dyn Fn() -> String + Send + Sync>,
    /// Names the address answers to, beside its addresses and `localhost`.
    hosts: Vec<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Misdirected,
    Unknown,
}

impl Access {
    pub fn new(token: impl Fn() -> String + Send + Sync + 'static, hosts: &[String]) -> Self {
        Self { token: Arc::new(token), hosts: hosts.to_vec() }
    }

    fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<Refusal> {
        if PROBES.contains(&uri.path()) {
            None
        } else if !self.is_own(uri, headers) {
            Some(Refusal::Misdirected)
        } else if !self.is_known(headers) {
            Some(Refusal::Unknown)
        } else {
            None
        }
    }

    /// A page of somebody else's can have a browser ask us under its own name, once DNS says that
    /// this is us; it can not under an address, nor under `localhost`.
    fn is_own(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let told = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let Some(name) = uri.authority().map(Authority::as_str).or(told).map(name) else {
            return false;
        };
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let told = headers.get(header::AUTHORIZATION).and_then(|told| told.to_str().ok());
        let known = (self.token)();
        known.is_empty()
            || told
                .and_then(token)
                .is_some_and(|told| bool::from(told.as_bytes().ct_eq(known.as_bytes())))
    }
}

/// A host without its port, brackets and the root's dot.
fn name(host: &str) -> &str {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// The token, as programs send it, or as the password that a browser asks a person for.
fn token(told: &str) -> Option<String> {
    let (scheme, rest) = told.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "not a name of this address: add it to status.hosts\n",
            )
                .into_response(),
            Self::Unknown => {
                let challenge =
                    [(header::WWW_AUTHENTICATE, "Basic realm=\"tidemark\", charset=\"UTF-8\"")];
                let sentence = "the token is missing or wrong: send it as a bearer token, or as \
                                the password\n";
                (StatusCode::UNAUTHORIZED, challenge, sentence).into_response()
            }
        }
    }
}

pub(super) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match access.refusal(request.uri(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    harden(&mut response);
    response
}

/// Nothing from elsewhere, nothing inline, in no frame, in no cache.
fn harden(response: &mut Response) {
    const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src \
                          'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        access: &Access,
        path: &'static str,
        host: Option<&str>,
        told: Option<&str>,
    ) -> Option<Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::AUTHORIZATION, told)] {
            headers.extend(value.map(|value| (name, HeaderValue::from_str(value).unwrap())));
        }
        access.refusal(&Uri::from_static(path), &headers)
    }

    #[test]
    fn only_names_of_its_own_are_answered_to() {
        let access = Access::new(String::new, &["tidemark.example".to_owned()]);
        let own = [
            "127.0.0.1",
            "10.1.2.3:80",
            "[::1]:9464",
            "[::1]",
            "localhost:8080",
            "LOCALHOST",
            "tidemark.example:1",
        ];
        for host in own {
            assert_eq!(asked(&access, "/status", Some(host), None), None, "{host}");
        }
        let others = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""];
        for host in others {
            assert_eq!(
                asked(&access, "/status", Some(host), None),
                Some(Refusal::Misdirected),
                "{host}"
            );
            assert_eq!(asked(&access, "/livez", Some(host), None), None, "{host}");
        }
        assert_eq!(asked(&access, "/", None, None), Some(Refusal::Misdirected));
        assert_eq!(
            asked(&access, "http://evil.example/", Some("localhost"), None),
            Some(Refusal::Misdirected)
        );
    }

    #[test]
    fn the_token_is_taken_in_both_ways_and_no_other() {
        let access = Access::new(|| "s3cret".to_owned(), &[]);
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let ask = |told: Option<&str>| asked(&access, "/metrics", Some("localhost"), told);
        for told in [
            "Bearer s3cret".to_owned(),
            "bearer s3cret".to_owned(),
            basic("anyone:s3cret"),
            basic(":s3cret"),
        ] {
            assert_eq!(ask(Some(&told)), None, "{told}");
        }
        let wrong = [
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer ",
            "s3cret",
            "Digest s3cret",
            "Basic s3cret",
            "Bearer",
        ];
        for told in wrong.map(str::to_owned).into_iter().chain([basic("s3cret:"), basic("s3cret")])
        {
            assert_eq!(ask(Some(&told)), Some(Refusal::Unknown), "{told}");
        }
        assert_eq!(ask(None), Some(Refusal::Unknown));
        assert_eq!(asked(&access, "/readyz", None, None), None);
        assert!(!format!("{access:?}").contains("s3cret"));
    }
}
