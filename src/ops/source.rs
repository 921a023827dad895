//! Another source, or an older one, that a person means: what a stream is bound to, and what is
//! there.

use serde::Serialize;

use super::resync::stream;
use super::slip::{Slip, Unable};
use crate::postgres::Target;
use crate::settings::Settings;
use crate::source::{Found, Source};
use crate::state::{StateTables, StreamRow};

/// What a stream's position speaks for, beside what is there now.
#[derive(Debug, Clone, Serialize)]
pub struct Adoption {
    pub stream: String,
    pub source: String,
    pub bound: Option<Ends>,
    pub here: Ends,
    pub documents: u64,
    /// For the daemon: whose it must be.
    #[serde(skip)]
    pub arguments: serde_json::Value,
}

/// Whose a stream is, and what is at its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ends {
    pub owner: String,
    /// The replica set's id; `None` where the source does not tell it.
    pub cluster: Option<String>,
    pub collection: Option<String>,
}

/// Looks at both; changes nothing.
///
/// # Errors
/// There is no such stream or no such collection; whatever either end answers.
pub async fn adopt(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    name: &str,
) -> Result<Adoption, Unable> {
    let config = stream(settings, name)?;
    let source = Source::new(settings).await?.of_database(settings.database_of(config));
    let found = source.find_collection(&config.collection).await?;
    let namespace = source.namespace(&config.collection).to_string();
    if !matches!(found, Found::Collection(_)) {
        let message = format!("there is no collection {namespace} at {}", source.shown());
        return Err(Slip::new(message, "correct source.uri or source.database").into());
    }
    let owner = target.owner();
    let row = state.stream_row(name).await?;
    let bound_to = row.as_ref().map_or_else(|| owner.clone(), StreamRow::owner);
    let bound = row.and_then(|row| row.binding());
    Ok(Adoption {
        stream: name.to_owned(),
        source: namespace,
        bound: bound.map(|bound| Ends {
            owner: bound_to.to_string(),
            cluster: bound.cluster,
            collection: bound.collection_uuid.map(|uuid| uuid.to_string()),
        }),
        here: Ends {
            owner: owner.to_string(),
            cluster: source.cluster().await?,
            collection: found.uuid().map(|uuid| uuid.to_string()),
        },
        documents: source.estimate(&config.collection).await?,
        arguments: serde_json::json!({
            "service": owner.service, "environment": owner.environment,
        }),
    })
}
