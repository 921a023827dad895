//! A file system of its own, small enough to be filled.

use std::fs::{File, create_dir, remove_dir, remove_file};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use devstack::{Result, unique};

const SIZE: &str = "size=2g,mode=1777";
const PIECE: usize = 1 << 20;

/// Mounted for as long as it lives. It takes memory, and the right to mount.
pub struct Room {
    folder: PathBuf,
}

impl Room {
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(unique("tidemark-soak-room"));
        create_dir(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&folder);
        if !mount.status()?.success() {
            remove_dir(&folder)?;
            let why = "no file system can be mounted to be filled: run it as root";
            return Err(why.into());
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777))?;
        Ok(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Nothing more can be written in it.
    pub fn fill(&self) -> Result<()> {
        let mut balloon = File::create(self.balloon())?;
        let piece = vec![0; PIECE];
        loop {
            match balloon.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As it was before; nothing, if it was not filled.
    pub fn empty(&self) {
        let _ = remove_file(self.balloon());
    }

    fn balloon(&self) -> PathBuf {
        self.folder.join("balloon")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Lazily: a server that is ending may still hold a file.
        let ended = Command::new("umount").arg("-l").arg(&self.folder).status();
        if ended.is_ok_and(|status| status.success()) {
            let _ = remove_dir(&self.folder);
        }
    }
}
