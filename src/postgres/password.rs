//! What a login needs as of now: passwords, users and certificates change under a process that
//! lives for months.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

use super::connect_options;
use crate::error::{Class, Code, Fault};
use crate::settings::{Patience, Settings, TargetSettings, output_of};

/// Asked before each login. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Logins {
    target: Arc<TargetSettings>,
    has_client_certificate: bool,
    patience: Arc<Patience>,
}

impl Logins {
    pub fn new(settings: &Settings) -> Self {
        Self {
            target: Arc::new(settings.target.clone()),
            has_client_certificate: connect_options::has_client_certificate(&settings.target),
            patience: Arc::default(),
        }
    }

    /// The hosts in the order given, with the URL as its file has it now and the password that
    /// `target.password_command` says now. Never empty.
    ///
    /// # Errors
    /// The URL has become one that cannot be used; the command fails or is silent: the next login
    /// may pass.
    pub async fn now(&self) -> Result<Vec<PgConnectOptions>, Fault> {
        let target =
            TargetSettings { url: self.target.url.now(), ..TargetSettings::clone(&self.target) };
        let hosts = self.judged(connect_options::of(&target))?;
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
    pub fn accepted<T>(&self, login: Result<T, Fault>) -> Result<T, Fault> {
        let login = self.judged(login);
        if login.is_ok() {
            self.patience.accepted();
        }
        login
    }

    /// A certificate and a key that do not go together, or one that is away, are halfway through
    /// being replaced: both are read anew at the next login.
    fn judged<T>(&self, made: Result<T, Fault>) -> Result<T, Fault> {
        let changes = self.has_client_certificate
            || self.target.url.may_change()
            || !self.target.password_command.is_empty();
        let of_login = |fault: &Fault| {
            fault.code == Code::TargetUnauthorised
                || (self.has_client_certificate && fault.code == Code::TargetUnreachable)
        };
        made.map_err(|fault| {
            let halts = fault.class == Class::Halt;
            if halts && changes && of_login(&fault) && self.patience.lasts() {
                Fault { class: Class::Transient, ..fault }
            } else {
                fault
            }
        })
    }
}
