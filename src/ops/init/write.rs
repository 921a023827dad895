//! Puts a proposal into a file, once it has been read there as a configuration and is one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::toml_text::SCHEMA_FILE;
use crate::ops::slip::{Slip, Unable};
use crate::settings::{Origin, Settings};

/// Writes a new configuration, and beside it the schema that it names.
///
/// # Errors
/// The file is there already and is not to be replaced, cannot be written, or what would be written
/// is not valid beside the layers of `origin`.
pub fn create(file: &Path, text: &str, replace: bool, origin: &Origin) -> Result<(), Unable> {
    if file.exists() && !replace {
        let message = format!("{} is there already", file.display());
        return Err(Slip::new(message, "name another, or replace it with --force").into());
    }
    let trial = Trial::beside(file);
    fs::write(&trial.0, text).map_err(|error| failed(file, &error))?;
    trial.judge(origin)?;
    fs::write(file, text).map_err(|error| failed(file, &error))?;
    let schema = file.with_file_name(SCHEMA_FILE);
    fs::write(&schema, Settings::schema()).map_err(|error| failed(&schema, &error))
}

/// Adds to the end of a configuration.
///
/// # Errors
/// It is not there, cannot be written, or would not be valid.
pub fn append(file: &Path, text: &str, origin: &Origin) -> Result<(), Unable> {
    let before = fs::read_to_string(file).map_err(|error| failed(file, &error))?;
    let end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let trial = Trial::beside(file);
    // Copied as it is, with its permissions: it may hold secrets.
    let copied = fs::copy(file, &trial.0).and_then(|_| add(&trial.0, end, text));
    copied.map_err(|error| failed(file, &error))?;
    trial.judge(origin)?;
    add(file, end, text).map_err(|error| failed(file, &error))
}

fn add(file: &Path, end: &str, text: &str) -> std::io::Result<()> {
    let mut open = fs::OpenOptions::new().append(true).open(file)?;
    open.write_all(format!("{end}{text}").as_bytes())
}

fn failed(file: &Path, error: &std::io::Error) -> Unable {
    let hint = "name a place that can be written to with --out";
    Slip::new(format!("{} cannot be written: {error}", file.display()), hint).into()
}

/// What would be written, beside where it belongs; gone when dropped.
struct Trial(PathBuf);

impl Trial {
    fn beside(file: &Path) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Self(file.with_file_name(format!(".{name}.{}", std::process::id())))
    }

    fn judge(&self, origin: &Origin) -> Result<(), Unable> {
        let origin = Origin { file: Some(self.0.clone()), ..origin.clone() };
        match Settings::load(&origin) {
            Ok(_) => Ok(()),
            Err(problems) => {
                let told: Vec<String> = problems
                    .0
                    .iter()
                    .map(|problem| format!("{} {}", problem.key, problem.message))
                    .collect();
                let message =
                    format!("the file would be no valid configuration: {}", told.join("; "));
                Err(Slip::new(message, "nothing was written").into())
            }
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
