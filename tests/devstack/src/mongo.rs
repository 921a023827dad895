//! A throwaway MongoDB replica set, and ways to break it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};

use crate::process::{Guarded, User, fresh_folder, tail};
use crate::{Certificate, Proxy, Result, binaries, free_port};

#[derive(Debug, Clone)]
pub struct MongoOptions {
    pub members: usize,
    /// In MB. 16 is small enough to be rolled over in seconds.
    pub oplog_megabytes: u32,
    pub cache_gigabytes: f64,
    /// Each member is known, to clients and to the others, by the address of a proxy before it.
    pub proxied: bool,
    /// One server that is no replica set.
    pub standalone: bool,
    /// The server's certificate and the authority of its clients', for TLS beside clear text.
    pub certificate: Option<(Certificate, String)>,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            members: 1,
            oplog_megabytes: 990,
            cache_gigabytes: 0.5,
            proxied: false,
            standalone: false,
            certificate: None,
        }
    }
}

impl MongoOptions {
    pub fn small_oplog() -> Self {
        Self { oplog_megabytes: 16, cache_gigabytes: 0.25, ..Self::default() }
    }
}

struct Member {
    process: Option<Guarded>,
    folder: PathBuf,
    port: u16,
    proxy: Option<Proxy>,
}

impl Member {
    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.as_ref().map_or(self.port, Proxy::port))
    }
}

/// A replica set named `rs0`, with failpoints enabled. Ended when dropped.
pub struct Mongo {
    members: Vec<Member>,
    options: MongoOptions,
}

impl Mongo {
    pub fn start(options: &MongoOptions) -> Result<Self> {
        let mut mongo = Self { members: Vec::new(), options: options.clone() };
        for _ in 0..options.members {
            let folder = fresh_folder("mongo", User(None))?;
            let port = free_port()?;
            let proxy = options.proxied.then(|| Proxy::to(port)).transpose()?;
            mongo.members.push(Member { process: None, folder, port, proxy });
        }
        for index in 0..options.members {
            mongo.start_member(index)?;
        }
        if !options.standalone {
            mongo.block_on(|mongo| async move { mongo.initiate().await })?;
        }
        Ok(mongo)
    }

    fn start_member(&mut self, index: usize) -> Result<()> {
        let options = &self.options;
        let member = &mut self.members[index];
        let mut arguments = vec![
            "--dbpath".to_owned(),
            member.folder.display().to_string(),
            "--port".to_owned(),
            member.port.to_string(),
            "--bind_ip=127.0.0.1".to_owned(),
            format!("--oplogSize={}", options.oplog_megabytes),
            format!("--wiredTigerCacheSizeGB={}", options.cache_gigabytes),
            "--syncdelay=1".to_owned(),
            "--quiet".to_owned(),
            "--nounixsocket".to_owned(),
            "--setParameter=enableTestCommands=1".to_owned(),
        ];
        if !options.standalone {
            arguments.push("--replSet=rs0".to_owned());
        }
        if let Some((certificate, authority)) = &options.certificate {
            let (own, clients) =
                (member.folder.join("server.pem"), member.folder.join("clients.pem"));
            std::fs::write(&own, certificate.together())?;
            std::fs::write(&clients, authority)?;
            arguments.extend(
                ["--tlsMode=preferTLS", "--tlsAllowConnectionsWithoutCertificates"]
                    .map(str::to_owned),
            );
            arguments.extend([
                "--tlsAllowInvalidHostnames".to_owned(),
                "--tlsAllowInvalidCertificates".to_owned(),
            ]);
            arguments.push(format!("--tlsCertificateKeyFile={}", own.display()));
            arguments.push(format!("--tlsCAFile={}", clients.display()));
        }
        let log = std::env::temp_dir().join(format!("{}.log", member.folder.display()));
        let process = Guarded::spawn(
            &binaries::mongod()?,
            &arguments,
            &log,
            "KILL",
            Some(&member.folder),
            User(None),
        )?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", member.port)).is_err() {
            if !process.is_running() || Instant::now() > deadline {
                return Err(
                    format!("mongod did not start; the end of its log:\n{}", tail(&log)).into()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = std::fs::remove_file(&log);
        member.process = Some(process);
        Ok(())
    }

    async fn initiate(&self) -> Result<()> {
        let members: Vec<Document> = self
            .members
            .iter()
            .enumerate()
            .map(|(id, member)| {
                doc! { "_id": i32::try_from(id).unwrap_or(0), "host": member.host() }
            })
            .collect();
        let settings = doc! { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 };
        let config = doc! { "_id": "rs0", "members": members, "settings": settings };
        let direct = Client::with_uri_str(format!(
            "mongodb://127.0.0.1:{}/?directConnection=true",
            self.members[0].port
        ))
        .await?;
        direct.database("admin").run_command(doc! { "replSetInitiate": config }).await?;
        self.wait_for_primary().await
    }

    /// Waits until writes are accepted.
    pub async fn wait_for_primary(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let client = self.client().await?;
            let ready = client.database("devstack").collection("ready");
            let write = async { ready.insert_one(doc! { "at": 1 }).await };
            match tokio::time::timeout(Duration::from_secs(5), write).await {
                Ok(Ok(_)) => return Ok(()),
                outcome if Instant::now() > deadline => {
                    return Err(format!("no primary within a minute: {outcome:?}").into());
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Runs something asynchronous on a thread of its own: callers may or may not be in a runtime.
    fn block_on<'a, F: Future<Output = Result<()>> + 'a>(
        &'a self,
        make: impl FnOnce(&'a Self) -> F + Send + 'a,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<()> {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(make(self))
            });
            thread.join().map_err(|_| "a devstack thread panicked")?
        })
    }

    /// `host:port` of each member.
    pub fn hosts(&self) -> Vec<String> {
        self.members.iter().map(Member::host).collect()
    }

    /// What stands before a member, if the set is proxied.
    pub fn proxy(&self, member: usize) -> Option<&Proxy> {
        self.members[member].proxy.as_ref()
    }

    pub fn port(&self) -> u16 {
        self.members[0].port
    }

    /// Presents another certificate from now on.
    pub async fn present(&self, certificate: &Certificate) -> Result<()> {
        std::fs::write(self.members[0].folder.join("server.pem"), certificate.together())?;
        self.client()
            .await?
            .database("admin")
            .run_command(doc! { "rotateCertificates": 1 })
            .await?;
        Ok(())
    }

    /// The process ids of the members that run.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.process.as_ref().map(Guarded::pid)).collect()
    }

    pub fn uri(&self) -> String {
        format!(
            "mongodb://{}/?replicaSet=rs0&serverSelectionTimeoutMS=5000",
            self.hosts().join(",")
        )
    }

    pub async fn client(&self) -> Result<Client> {
        Ok(Client::with_uri_str(self.uri()).await?)
    }

    /// Writes into a collection of its own until the oplog has been rolled over `times` times, as
    /// fast as it can: faster than anyone can follow.
    pub async fn roll_oplog(&self, times: usize) -> Result<()> {
        self.roll(times, 100, async || {}).await
    }

    /// The same at a pace of some seconds a roll, and once who is to keep up has `followed`.
    pub async fn roll_oplog_gently(&self, n: usize, mut followed: impl AsyncFnMut()) -> Result<()> {
        self.roll(n, 3, async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            followed().await;
        })
        .await
    }

    async fn roll(&self, times: usize, step: usize, mut rest: impl AsyncFnMut()) -> Result<()> {
        let client = self.client().await?;
        let filler = client.database("devstack").collection::<Document>("filler");
        let oplog = client.database("local").collection::<Document>("oplog.rs");
        for _ in 0..times {
            let newest = oplog
                .find_one(doc! {})
                .sort(doc! { "$natural": -1 })
                .await?
                .ok_or("an empty oplog")?;
            let newest = newest.get_timestamp("ts")?;
            let deadline = Instant::now() + Duration::from_secs(120);
            loop {
                let filling: Vec<Document> =
                    (0..step).map(|_| doc! { "filler": "x".repeat(100_000) }).collect();
                filler.insert_many(filling).await?;
                rest().await;
                let oldest = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await;
                let rolled = match oldest {
                    // The entry was rolled away while it was read.
                    Err(error) if is_position_lost(&error) => false,
                    oldest => oldest?.ok_or("an empty oplog")?.get_timestamp("ts")? > newest,
                };
                if rolled {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(
                        "the oplog was not rolled over within two minutes; start mongod with \
                         small_oplog()"
                            .into(),
                    );
                }
            }
            filler.drop().await?;
        }
        Ok(())
    }

    /// Sets a `failCommand` failpoint for the clients that call themselves `app_name`.
    pub async fn fail_command(
        &self,
        app_name: &str,
        mode: Document,
        commands: &[&str],
        mut data: Document,
    ) -> Result<()> {
        data.insert("failCommands", commands.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        data.insert("appName", app_name);
        let command = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        self.client().await?.database("admin").run_command(command).await?;
        Ok(())
    }

    /// Makes the secondaries take nothing more from the primary, or go on: the majority point
    /// stands still.
    pub async fn replicate(&self, go_on: bool) -> Result<()> {
        for host in self.hosts() {
            let member =
                Client::with_uri_str(format!("mongodb://{host}/?directConnection=true")).await?;
            let admin = member.database("admin");
            if admin.run_command(doc! { "hello": 1 }).await?.get_bool("isWritablePrimary")? {
                continue;
            }
            let mode = if go_on { "off" } else { "alwaysOn" };
            admin
                .run_command(doc! { "configureFailPoint": "stopReplProducer", "mode": mode })
                .await?;
        }
        Ok(())
    }

    pub async fn clear_failpoint(&self) -> Result<()> {
        let command = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        self.client().await?.database("admin").run_command(command).await?;
        Ok(())
    }

    /// Makes the primary step down, and waits for the next.
    pub async fn step_down(&self) -> Result<()> {
        let client = self.client().await?;
        let _ = client
            .database("admin")
            .run_command(
                doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5, "force": true },
            )
            .await;
        self.wait_for_primary().await
    }

    pub fn kill(&mut self, member: usize) -> Result<()> {
        if let Some(process) = &self.members[member].process {
            process.signal("KILL")?;
            while process.is_running() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    pub fn pause(&self, member: usize) -> Result<()> {
        self.members[member].process.as_ref().map_or(Ok(()), |process| process.signal("STOP"))
    }

    pub fn resume(&self, member: usize) -> Result<()> {
        self.members[member].process.as_ref().map_or(Ok(()), |process| process.signal("CONT"))
    }

    /// A killed member's data as they are, to be put back later.
    pub fn copy(&self, member: usize) -> Result<PathBuf> {
        let copy = self.members[member].folder.with_extension("copy");
        run(
            "cp",
            &[
                "-a",
                &self.members[member].folder.display().to_string(),
                &copy.display().to_string(),
            ],
        )?;
        Ok(copy)
    }

    /// Puts a copy back in the place of a killed member's data and starts it: a backup restored.
    /// The copy is used up.
    pub fn restore(&mut self, member: usize, copy: &Path) -> Result<()> {
        std::fs::remove_dir_all(&self.members[member].folder)?;
        std::fs::rename(copy, &self.members[member].folder)?;
        self.restart(member)
    }

    /// Starts a killed member again over its own data.
    pub fn restart(&mut self, member: usize) -> Result<()> {
        // The old watch would remove the folder: the data is moved aside while it ends.
        let folder = self.members[member].folder.clone();
        let aside = folder.with_extension("aside");
        std::fs::rename(&folder, &aside)?;
        drop(self.members[member].process.take());
        std::fs::rename(&aside, &folder)?;
        self.start_member(member)
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = std::process::Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed").into()) }
}

/// 136, `CappedPositionLost`.
fn is_position_lost(error: &mongodb::error::Error) -> bool {
    use mongodb::error::ErrorKind;
    matches!(error.kind.as_ref(), ErrorKind::Command(command) if command.code == 136)
}
