//! Whose daemon it is: a stream's tables belong to one service in one environment.

use std::fmt;

/// `service` and `environment` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub service: String,
    pub environment: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} in environment {}", self.service, self.environment)
    }
}
