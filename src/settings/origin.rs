//! Where configuration comes from, and what is said when it is wrong.

use std::path::{Path, PathBuf};

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or a file's path.
    pub key: String,
    /// Where the value came from.
    pub layer: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// All that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} configuration error{plural}", self.0.len())?;
        for problem in &self.0 {
            write!(f, "\n  {} ({}): {}", problem.key, problem.layer, problem.message)?;
        }
        Ok(())
    }
}

/// Where configuration comes from; injected, so that tests need neither the process's environment
/// nor its directory.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The directory that holds `config/<environment>.toml`.
    pub directory: PathBuf,
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
}

impl Origin {
    /// The process's own working directory and environment.
    pub fn of_process(file: Option<&Path>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self {
            directory: PathBuf::from("."),
            file: file.map(Path::to_owned),
            variables: variables.collect(),
        }
    }
}
