//! What a login needs as of now: passwords, users and certificates change under a process that
//! lives for months.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

use super::options;
use crate::error::{Class, Code, Fault};
use crate::settings::{Patience, Settings, Target, output_of};

/// Asked before each login. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Logins {
    target: Arc<Target>,
    patience: Arc<Patience>,
}

impl Logins {
    pub fn new(settings: &Settings) -> Self {
        Self { target: Arc::new(settings.target.clone()), patience: Arc::default() }
    }

    /// The hosts in the order given, with the URL as its file has it now and the password that
    /// `target.password_command` says now. Never empty.
    ///
    /// # Errors
    /// The URL has become one that cannot be used; the command fails or is silent: the next login
    /// may pass.
    pub async fn now(&self) -> Result<Vec<PgConnectOptions>, Fault> {
        let target = Target { url: self.target.url.now(), ..Target::clone(&self.target) };
        let hosts = options::of(&target)?;
        if target.password_command.is_empty() {
            return Ok(hosts);
        }
        let password = output_of(&target.password_command).await.map_err(|why| {
            let message = format!("target.password_command gave no password: {why}");
            let hint = "run it by hand as the user that tidemark runs as";
            Fault::new(Class::Transient, Code::TargetUnauthorised, message, hint)
        })?;
        Ok(hosts.into_iter().map(|host| host.password(password.expose())).collect())
    }

    /// What came of a login. One that is refused while its password is changed is no person's
    /// matter yet: the next is made with what there is then.
    pub fn judged<T>(&self, login: Result<T, Fault>) -> Result<T, Fault> {
        let changes = self.target.url.may_change() || !self.target.password_command.is_empty();
        match login {
            Ok(session) => {
                self.patience.accepted();
                Ok(session)
            }
            Err(fault)
                if fault.code == Code::TargetUnauthorised && changes && self.patience.lasts() =>
            {
                Err(Fault { class: Class::Transient, ..fault })
            }
            Err(fault) => Err(fault),
        }
    }
}
