//! How the source is logged in to: whether the parts of `source.uri` go together, and what the
//! login is called for a person.
//!
//! A login by IAM (`MONGODB-AWS`) shows the server a signature and never the key. The driver takes
//! the key from the URI, or asks for it where AWS keeps it for a process. It asks anew for each
//! login, so tidemark need not know when a key runs out.

use mongodb::options::{AuthMechanism, ConnectionString};

use super::uri::refuse;
use crate::error::Fault;

/// The one `authSource` in which users that log in by IAM are kept.
const EXTERNAL: &str = "$external";

/// The one property of `authMechanismProperties` that this mechanism knows.
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// The mechanism's name as it is written in a URI.
pub(super) const AWS: &str = "MONGODB-AWS";

/// # Errors
/// What of the login would be without effect, or misunderstood.
pub(super) fn judge(uri: &ConnectionString, password_command: &str) -> Result<(), Fault> {
    let asked = !password_command.is_empty();
    if is_by_aws(uri) {
        return if asked {
            refuse(
                "logs in by MONGODB-AWS, which asks for no password: leave \
                    source.password_command empty",
            )
        } else {
            judge_aws(uri)
        };
    }
    match &uri.credential {
        _ if !asked => Ok(()),
        None => refuse("names no user, whose password source.password_command would say"),
        Some(credential) if credential.password.is_some() => {
            refuse("has a password, and source.password_command is given too: keep one of the two")
        }
        Some(_) => Ok(()),
    }
}

fn judge_aws(uri: &ConnectionString) -> Result<(), Fault> {
    let Some(credential) = &uri.credential else { return Ok(()) };
    if credential.source.as_ref().is_some_and(|source| source != EXTERNAL) {
        return refuse("has an authSource other than $external, where users of MONGODB-AWS are");
    }
    let mut properties = credential.mechanism_properties.iter().flat_map(|given| given.keys());
    if properties.any(|name| name != SESSION_TOKEN) {
        return refuse(
            "has an authMechanismProperties other than AWS_SESSION_TOKEN, which \
                       MONGODB-AWS does not know",
        );
    }
    if credential.mechanism_properties.is_some() && credential.username.is_none() {
        return refuse(
            "has an AWS_SESSION_TOKEN without the access key that it belongs to: give \
                       both as user and password, or none of the three",
        );
    }
    Ok(())
}

/// Where a login by IAM takes its key from; `None` for any other login.
pub(super) fn described(uri: &ConnectionString) -> Option<&'static str> {
    let in_uri = uri.credential.as_ref().is_some_and(|credential| credential.username.is_some());
    is_by_aws(uri).then_some(if in_uri {
        "MONGODB-AWS, with the access key in source.uri"
    } else {
        "MONGODB-AWS, with the key that AWS gives this process, anew for each login"
    })
}

fn is_by_aws(uri: &ConnectionString) -> bool {
    let mechanism = uri.credential.as_ref().and_then(|credential| credential.mechanism.as_ref());
    matches!(mechanism, Some(AuthMechanism::MongoDbAws))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rest: &str, command: &str) -> String {
        let uri = ConnectionString::parse(format!("mongodb://{rest}")).unwrap();
        judge(&uri, command)
            .map_or_else(|fault| fault.message, |()| described(&uri).unwrap_or("taken").to_owned())
    }

    #[test]
    fn what_would_be_without_effect_is_refused() {
        let aws = "localhost/?authMechanism=MONGODB-AWS";
        for (rest, command, told) in [
            ("localhost/", "", "taken"),
            ("u@localhost/", "say", "taken"),
            ("localhost/", "say", "names no user"),
            ("u:c4n4ry@localhost/", "say", "has a password, and"),
            (aws, "", "with the key that AWS gives this process"),
            (&format!("{aws}&authSource=$external"), "", "with the key that AWS gives"),
            (&format!("AKIA:c4n4ry@{aws}"), "", "with the access key in source.uri"),
            (
                &format!("AKIA:c4n4ry@{aws}&authMechanismProperties=AWS_SESSION_TOKEN:c4n4ry"),
                "",
                "with the access key in source.uri",
            ),
            (aws, "say", "asks for no password"),
            (&format!("{aws}&authSource=admin"), "", "authSource other than $external"),
            (
                &format!("{aws}&authMechanismProperties=AWS_SESSION_TOKEN:c4n4ry"),
                "",
                "without the access key",
            ),
            (
                &format!("AKIA:c4n4ry@{aws}&authMechanismProperties=SERVICE_NAME:c4n4ry"),
                "",
                "other than AWS_SESSION_TOKEN",
            ),
        ] {
            let said = judged(rest, command);
            assert!(said.contains(told) && !said.contains("c4n4ry"), "{rest}: {said}");
        }
    }
}
