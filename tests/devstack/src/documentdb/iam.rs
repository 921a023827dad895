//! Logins by IAM (`MONGODB-AWS`): a server shows AWS the signature it was given, and is told whose
//! it is. Here the keys are known, and each signature is computed anew.
//! <https://github.com/mongodb/specifications/blob/master/source/auth/auth.md#mongodb-aws>

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use chrono::NaiveDateTime;
use ring::{digest, hmac};

use crate::Result;

const HOST: &str = "sts.amazonaws.com";
const SCOPE: &str = "us-east-1/sts/aws4_request";
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// What is asked before anybody is logged in.
const OPEN: [&str; 3] = ["hello", "isMaster", "ismaster"];

/// How far the clocks of both may be apart, in seconds.
const SKEW: i64 = 300;

/// One that AWS gave out, for good or (with a session token) for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
    pub session_token: Option<String>,
}

/// Who may log in, and what was seen of those who tried.
#[derive(Default)]
pub(super) struct Iam {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    admitted: Vec<AccessKey>,
    /// No secret of these may be sent.
    known: Vec<AccessKey>,
    logins: Vec<String>,
    refusals: Vec<String>,
    leaks: Vec<String>,
}

/// How far one connection has come.
#[derive(Default)]
pub(super) enum Login {
    #[default]
    None,
    /// It has been sent this nonce.
    Asked(Vec<u8>),
    Done,
}

impl Iam {
    pub fn admit(&self, keys: &[AccessKey]) {
        let mut seen = self.seen();
        seen.admitted = keys.to_vec();
        seen.known.extend_from_slice(keys);
    }

    /// The ids of the keys that were logged in with, in order.
    pub fn logins(&self) -> Vec<String> {
        self.seen().logins.clone()
    }

    /// Why logins were refused, in order.
    pub fn refusals(&self) -> Vec<String> {
        self.seen().refusals.clone()
    }

    /// The ids of the keys whose secret was sent.
    pub fn leaks(&self) -> Vec<String> {
        self.seen().leaks.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a client should never have sent.
    pub fn look(&self, bytes: &[u8]) {
        let mut seen = self.seen();
        let sent = |key: &&AccessKey| {
            let secret = key.secret.as_bytes();
            bytes.windows(secret.len()).any(|window| window == secret)
        };
        let leaks: Vec<String> = seen.known.iter().filter(sent).map(|k| k.id.clone()).collect();
        seen.leaks.extend(leaks);
    }

    /// The answer to what is asked for a login, or before one; `None` if the server is to answer.
    ///
    /// # Errors
    /// The code and words of a refusal.
    pub fn answer(
        &self,
        login: &mut Login,
        body: &Document,
    ) -> std::result::Result<Option<Document>, (i32, String)> {
        let command = body.keys().next().map(String::as_str).unwrap_or_default();
        match (command, &*login) {
            ("saslStart", _) => {
                let (nonce, reply) = start(body).map_err(|why| self.refuse(&why.to_string()))?;
                *login = Login::Asked(nonce);
                Ok(Some(reply))
            }
            ("saslContinue", Login::Asked(nonce)) => {
                let admitted = self.seen().admitted.clone();
                let found = finish(body, nonce, &admitted);
                let id = found.map_err(|why| self.refuse(&why.to_string()))?;
                self.seen().logins.push(id);
                *login = Login::Done;
                let payload = Binary { subtype: BinarySubtype::Generic, bytes: Vec::new() };
                Ok(Some(doc! { "conversationId": 1, "done": true, "payload": payload, "ok": 1.0 }))
            }
            (_, Login::Done) => Ok(None),
            (command, _) if OPEN.contains(&command) => Ok(None),
            (command, _) => Err((13, format!("command {command} requires authentication"))),
        }
    }

    fn refuse(&self, why: &str) -> (i32, String) {
        self.seen().refusals.push(why.to_owned());
        (18, "Authentication failed.".to_owned())
    }
}

fn payload(body: &Document) -> Result<Document> {
    Ok(Document::from_reader(body.get_binary_generic("payload")?.as_slice())?)
}

/// The client's nonce, made longer.
fn start(body: &Document) -> Result<(Vec<u8>, Document)> {
    if body.get_str("mechanism")? != "MONGODB-AWS" || body.get_str("$db")? != "$external" {
        return Err("another mechanism, or another source of users".into());
    }
    let first = payload(body)?;
    let mut nonce = first.get_binary_generic("r")?.clone();
    if nonce.len() != 32 || first.get_i32("p")? != i32::from(b'n') {
        return Err("the first payload is not one of 32 bytes without channel binding".into());
    }
    nonce.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(32));
    let server = Binary { subtype: BinarySubtype::Generic, bytes: nonce.clone() };
    let bytes = doc! { "s": server, "h": HOST }.to_vec()?;
    let payload = Binary { subtype: BinarySubtype::Generic, bytes };
    Ok((nonce, doc! { "conversationId": 1, "done": false, "payload": payload, "ok": 1.0 }))
}

/// The id of the key that signed, if it may.
fn finish(body: &Document, nonce: &[u8], admitted: &[AccessKey]) -> Result<String> {
    let second = payload(body)?;
    let (date, token) = (second.get_str("d")?, second.get_str("t").ok());
    let told = NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ")?.and_utc().timestamp();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    if (now - told).abs() > SKEW {
        return Err("it is of another time".into());
    }
    let day = date.get(..8).ok_or("no date")?;
    let parts = second.get_str("a")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("not signed")?;
    let parts: BTreeMap<&str, &str> =
        parts.split(", ").filter_map(|part| part.split_once('=')).collect();
    let part = |name: &str| parts.get(name).copied().ok_or(format!("no {name}"));
    let credential = part("Credential")?;
    let (id, scope) = credential.split_once('/').ok_or("a credential without a scope")?;
    if scope != format!("{day}/{SCOPE}") {
        return Err(format!("of another scope: {scope}").into());
    }
    let key = admitted.iter().find(|key| key.id == id).ok_or("of a key that is not admitted")?;
    if key.session_token.as_deref() != token {
        return Err("with another session token".into());
    }
    let request = canonical(part("SignedHeaders")?, date, nonce, token)?;
    if part("Signature")? != sign(&key.secret, date, day, &request) {
        return Err("another signature than the key's".into());
    }
    Ok(key.id.clone())
}

/// The request that AWS would be asked with, in the one form that is signed.
fn canonical(names: &str, date: &str, nonce: &[u8], token: Option<&str>) -> Result<String> {
    let (nonce, length) = (STANDARD.encode(nonce), BODY.len().to_string());
    let mut headers = BTreeMap::from([
        ("content-length", length.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", HOST),
        ("x-amz-date", date),
        ("x-mongodb-gs2-cb-flag", "n"),
        ("x-mongodb-server-nonce", nonce.as_str()),
    ]);
    headers.extend(token.map(|token| ("x-amz-security-token", token)));
    // A nonce that is not signed would let anybody use a signature a second time.
    let signed: Vec<&str> = names.split(';').collect();
    if signed != headers.keys().copied().collect::<Vec<_>>() {
        return Err(format!("signed were {names}").into());
    }
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    Ok(format!("POST\n/\n\n{lines}\n{names}\n{}", hex(digest(BODY.as_bytes()).as_ref())))
}

/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>
fn sign(secret: &str, date: &str, day: &str, request: &str) -> String {
    let hashed = hex(digest(request.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{SCOPE}\n{hashed}");
    let first = format!("AWS4{secret}").into_bytes();
    let key = std::iter::once(day).chain(SCOPE.split('/')).fold(first, |key, part| mac(&key, part));
    hex(&mac(&key, &text))
}

fn digest(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
