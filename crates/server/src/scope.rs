//! Which region and account a data directory belongs to. Both stand in every ARN that was ever handed out, so they are
//! fixed by the first start.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::ServerConfig;
use crate::error::ServerError;
use crate::files;

/// The file's name in the data directory.
const SCOPE_FILE: &str = "scope.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scope {
    region: String,
    account_id: String,
}

/// Binds a new data directory to the configured region and account.
///
/// # Errors
/// [`ServerError::OtherScope`] for a directory that belongs to others.
pub(crate) fn bind(config: &ServerConfig) -> Result<(), ServerError> {
    let path = config.data_dir.join(SCOPE_FILE);
    let wanted = Scope { region: config.region.clone(), account_id: config.account_id.clone() };
    match read(&path)? {
        None => files::replace(&path, &serde_json::to_vec(&wanted).unwrap_or_default(), files::PUBLIC_MODE),
        Some(known) if known == wanted => Ok(()),
        Some(Scope { region, account_id }) => {
            Err(ServerError::OtherScope { data_dir: config.data_dir.clone(), region, account_id })
        }
    }
}

fn read(path: &Path) -> Result<Option<Scope>, ServerError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ServerError::file("read", path, source)),
    };
    let damaged =
        |error: serde_json::Error| ServerError::DamagedFile { path: path.to_owned(), problem: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_keeps_its_region_and_account() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(dir.path());
        config.region = "eu-west-1".to_owned();
        bind(&config).unwrap();
        bind(&config).unwrap();
        config.region = "us-east-1".to_owned();
        let message = bind(&config).unwrap_err().to_string();
        assert!(message.contains("--region eu-west-1 --account-id 000000000000"), "{message}");
    }
}
