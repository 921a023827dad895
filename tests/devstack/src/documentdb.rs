//! A stand-in for Amazon DocumentDB: speaks the wire protocol, forwards to a real mongod, and
//! answers as DocumentDB does where the two differ. What differs is taken from Amazon's
//! documentation and from reports of its users.
//!
//! Tokens begin `01` instead of `82`; lost history is code 136, not 286; a token of another making
//! is code 9; there is no `startAfter`, no pre- or post-image, no stage but five; no operation
//! time; no oplog to read; no snapshot reads; on request no post-batch resume token, change streams
//! not enabled, and logins by IAM alone.

mod iam;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bson::{Bson, Document, doc};

use crate::Result;
pub use iam::AccessKey;
use iam::{Iam, Login};

const STAGES: [&str; 6] =
    ["$changeStream", "$match", "$project", "$redact", "$addFields", "$replaceRoot"];
const OP_MSG: i32 = 2013;
const HEADER: usize = 16;

/// How this one answers.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    /// Engines before 5.0 patch 3.0.11800 send no post-batch resume token.
    pub without_post_batch_token: bool,
    /// It says that it is a mongos: no DocumentDB, but no sharded cluster is at hand.
    pub mongos: bool,
    /// Nothing is told to who has not logged in by IAM.
    pub iam: bool,
}

struct Shared {
    engine: Engine,
    enabled: AtomicBool,
    /// Refusals to come: for which command, with which code and message.
    refusals: Mutex<VecDeque<(String, i32, String)>>,
    opened: AtomicU64,
    iam: Iam,
    stop: AtomicBool,
}

/// Listens on a loopback port of its own.
pub struct DocumentDb {
    port: u16,
    shared: Arc<Shared>,
}

impl DocumentDb {
    /// In front of a mongod.
    pub fn before(mongod: u16, engine: Engine) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            engine,
            enabled: AtomicBool::new(true),
            refusals: Mutex::default(),
            opened: AtomicU64::new(0),
            iam: Iam::default(),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", mongod)) {
                    serve(&accepting, &client, &server);
                }
            }
        });
        Ok(Self { port, shared })
    }

    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true&retryWrites=false", self.port)
    }

    /// Whether change streams are enabled (`modifyChangeStreams`).
    pub fn enable(&self, enabled: bool) {
        self.shared.enabled.store(enabled, Ordering::SeqCst);
    }

    /// Answers the next `command` (`aggregate` or `getMore` of a change stream) with an error.
    pub fn refuse(&self, command: &str, code: i32, message: &str) {
        if let Ok(mut refusals) = self.shared.refusals.lock() {
            refusals.push_back((command.to_owned(), code, message.to_owned()));
        }
    }

    /// Takes back what was to be refused.
    pub fn forget_refusals(&self) {
        if let Ok(mut refusals) = self.shared.refusals.lock() {
            refusals.clear();
        }
    }

    /// From here on these may log in by IAM, and no others.
    pub fn admit(&self, keys: &[AccessKey]) {
        self.shared.iam.admit(keys);
    }

    /// The ids of the keys that were logged in with, in order.
    pub fn logins(&self) -> Vec<String> {
        self.shared.iam.logins()
    }

    /// Why logins were refused, in order.
    pub fn refused_logins(&self) -> Vec<String> {
        self.shared.iam.refusals()
    }

    /// The ids of the keys whose secret was sent, which none is to be.
    pub fn leaked(&self) -> Vec<String> {
        self.shared.iam.leaks()
    }

    /// How often a change stream was asked for.
    pub fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::SeqCst)
    }
}

impl Drop for DocumentDb {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(shared: &Arc<Shared>, client: &TcpStream, server: &TcpStream) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let clone = |stream: &TcpStream| stream.try_clone();
    let (Ok(from_client), Ok(to_client), Ok(answer), Ok(hang_up)) =
        (clone(client), clone(client), clone(client), clone(client))
    else {
        return;
    };
    let (Ok(from_server), Ok(to_server)) = (clone(server), clone(server)) else { return };
    // Replies and refusals go out on one socket: one at a time.
    let out = Arc::new(Mutex::new(to_client));
    let (requests, replies, refused) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(&out));
    std::thread::spawn(move || {
        let _ = forward_requests(&requests, from_client, to_server, &refused);
        let _ = answer.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = forward_replies(&replies, from_server, &out);
        let _ = hang_up.shutdown(Shutdown::Both);
    });
}

fn forward_requests(
    shared: &Shared,
    mut client: TcpStream,
    mut server: TcpStream,
    out: &Mutex<TcpStream>,
) -> Result<()> {
    let mut login = if shared.engine.iam { Login::None } else { Login::Done };
    while let Some(message) = read_message(&mut client)? {
        let request = Message::parse(&message);
        if let (true, Some(request)) = (shared.engine.iam, &request) {
            shared.iam.look(&message);
            let answer = shared.iam.answer(&mut login, &request.body);
            if let Some(body) = answer.unwrap_or_else(|(code, text)| Some(refusal(code, &text))) {
                send(out, request.id, body)?;
                continue;
            }
        }
        match request.map(|request| shared.request(request)) {
            None => server.write_all(&message)?,
            Some(Ok(request)) => server.write_all(&request.bytes()?)?,
            Some(Err((id, code, text))) => {
                send(out, id, refusal(code, &text))?;
            }
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    Ok(())
}

fn refusal(code: i32, text: &str) -> Document {
    doc! { "ok": 0.0, "code": code, "codeName": "DocumentDb", "errmsg": text }
}

fn send(out: &Mutex<TcpStream>, answers: i32, body: Document) -> Result<()> {
    let reply = Message { id: 0, answers, flags: 0, body, rest: Vec::new() };
    out.lock().map_err(|_| "poisoned")?.write_all(&reply.bytes()?)?;
    Ok(())
}

fn forward_replies(shared: &Shared, mut server: TcpStream, out: &Mutex<TcpStream>) -> Result<()> {
    while let Some(message) = read_message(&mut server)? {
        let bytes = match Message::parse(&message) {
            Some(mut reply) => {
                shared.reply(&mut reply.body);
                reply.bytes()?
            }
            None => message,
        };
        out.lock().map_err(|_| "poisoned")?.write_all(&bytes)?;
    }
    Ok(())
}

type Refusal = (i32, i32, String);

impl Shared {
    /// The request as mongod is to see it, or why it is refused.
    fn request(&self, request: Message) -> std::result::Result<Message, Refusal> {
        let refuse = |code: i32, text: &str| Err((request.id, code, text.to_owned()));
        let command = request.body.keys().next().cloned().unwrap_or_default();
        if request.body.get_str("$db").is_ok_and(|db| db == "local") {
            return refuse(13, "Authorization failure");
        }
        let is_stream = request.body.get_array("pipeline").is_ok_and(|stages| {
            stages
                .first()
                .and_then(Bson::as_document)
                .is_some_and(|s| s.contains_key("$changeStream"))
        });
        if is_stream {
            self.opened.fetch_add(1, Ordering::SeqCst);
        }
        if is_stream || command == "getMore" {
            let mut refusals =
                self.refusals.lock().map_err(|_| (request.id, 8, "poisoned".to_owned()))?;
            if refusals.front().is_some_and(|(of, ..)| *of == command) {
                let (_, code, text) = refusals.pop_front().unwrap_or_default();
                return refuse(code, &text);
            }
        }
        if let Ok(concern) = request.body.get_document("readConcern") {
            if concern.contains_key("afterClusterTime") {
                return refuse(303, "Feature not supported: afterClusterTime");
            }
            if concern.get_str("level").is_ok_and(|level| level == "snapshot") {
                return refuse(303, "Feature not supported: readConcern level snapshot");
            }
        }
        if !is_stream {
            return Ok(request);
        }
        if !self.enabled.load(Ordering::SeqCst) {
            let text = "modifyChangeStreams has not been run for this collection/database";
            return refuse(136, text);
        }
        open(request)
    }

    /// The reply as DocumentDB would give it.
    fn reply(&self, reply: &mut Document) {
        reply.remove("operationTime");
        reply.remove("$clusterTime");
        if reply.get_i32("code").is_ok_and(|code| code == 286) {
            reply.insert("code", 136);
            reply.insert("codeName", "CappedPositionLost");
            let text = "CappedPositionLost: CollectionScan died due to position in capped \
                        collection being deleted";
            reply.insert("errmsg", text);
            reply.remove("errorLabels");
        }
        if self.engine.mongos && reply.remove("setName").is_some() {
            reply.insert("msg", "isdbgrid");
        }
        let Ok(cursor) = reply.get_document_mut("cursor") else { return };
        cursor.remove("atClusterTime");
        if self.engine.without_post_batch_token {
            cursor.remove("postBatchResumeToken");
        } else if let Ok(token) = cursor.get_document_mut("postBatchResumeToken") {
            as_documentdb(token);
        }
        for name in ["firstBatch", "nextBatch"] {
            let Ok(batch) = cursor.get_array_mut(name) else { continue };
            for event in batch.iter_mut().filter_map(Bson::as_document_mut) {
                if let Ok(token) = event.get_document_mut("_id") {
                    as_documentdb(token);
                }
            }
        }
    }
}

/// A request to open a change stream, as mongod is to see it, or why it is refused.
fn open(mut request: Message) -> std::result::Result<Message, Refusal> {
    let id = request.id;
    let stages =
        request.body.get_array_mut("pipeline").map_err(|_| (id, 9, "no pipeline".to_owned()))?;
    for stage in stages.iter().filter_map(Bson::as_document) {
        if let Some(unknown) = stage.keys().find(|key| !STAGES.contains(&key.as_str())) {
            return Err((id, 40324, format!("Unrecognized pipeline stage name: '{unknown}'")));
        }
        // It is not known to take expressions in a filter.
        if stage.get_document("$match").is_ok_and(|filter| filter.to_string().contains("$expr")) {
            return Err((id, 303, "Feature not supported: $expr".to_owned()));
        }
    }
    let stage = stages.first_mut().and_then(Bson::as_document_mut);
    let options = stage.and_then(|stage| stage.get_document_mut("$changeStream").ok());
    let Some(options) = options else { return Ok(request) };
    if options.contains_key("startAfter") {
        return Err((
            id,
            40415,
            "BSON field '$changeStream.startAfter' is an unknown field.".to_owned(),
        ));
    }
    if options.get_str("fullDocument").is_ok_and(|mode| mode != "updateLookup" && mode != "default")
    {
        return Err((id, 9, "Invalid value for fullDocument".to_owned()));
    }
    if let Ok(token) = options.get_document_mut("resumeAfter") {
        let data = token.get_str("_data").unwrap_or_default().to_owned();
        let Some(rest) = data.strip_prefix("01") else {
            return Err((id, 9, "Invalid resume token".to_owned()));
        };
        token.insert("_data", format!("82{rest}"));
    }
    Ok(request)
}

fn as_documentdb(token: &mut Document) {
    let Ok(data) = token.get_str("_data") else { return };
    if let Some(rest) = data.strip_prefix("82") {
        let data = format!("01{rest}");
        token.insert("_data", data);
    }
}

/// An `OP_MSG`: its body, and whatever document sequences follow, untouched.
struct Message {
    id: i32,
    answers: i32,
    flags: u32,
    body: Document,
    rest: Vec<u8>,
}

impl Message {
    /// `None` for a message of another kind.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        // Checksummed messages would have to be summed anew; the driver sends none.
        let flags = word(HEADER)?.cast_unsigned();
        if word(12)? != OP_MSG || flags & 1 != 0 || *bytes.get(HEADER + 4)? != 0 {
            return None;
        }
        let start = HEADER + 5;
        let length = usize::try_from(word(start)?).ok()?;
        let body = Document::from_reader(bytes.get(start..start + length)?).ok()?;
        Some(Self {
            id: word(4)?,
            answers: word(8)?,
            flags,
            body,
            rest: bytes.get(start + length..)?.to_vec(),
        })
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let body = self.body.to_vec()?;
        let length = HEADER + 5 + body.len() + self.rest.len();
        let mut out = Vec::with_capacity(length);
        for word in
            [i32::try_from(length)?, self.id, self.answers, OP_MSG, self.flags.cast_signed()]
        {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.push(0);
        out.extend_from_slice(&body);
        out.extend_from_slice(&self.rest);
        Ok(out)
    }
}

/// One whole message; `None` at the end of the connection.
fn read_message(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if stream.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let size = usize::try_from(i32::from_le_bytes(length))?;
    let mut message = vec![0; size];
    message[..4].copy_from_slice(&length);
    stream.read_exact(&mut message[4..])?;
    Ok(Some(message))
}
