//! Environment files: fetched from an object store, never written down here.

use std::collections::BTreeMap;

use bytes::Bytes;
use longshore_client::{ObjectName, S3, S3Config, S3Error};
use longshore_wire::sigv4;

use crate::config::credential_chain::{CredentialChain, Found};
use crate::engine::{EnvironmentFilesSpec, Made, Provided, ResourceError};

/// More than a process can be started with.
const MOST_BYTES: usize = 4 << 20;

/// Where objects are to be had, and with which keys of this machine.
#[derive(Clone, Debug)]
pub(crate) struct ObjectStore {
    store: S3,
    keys: CredentialChain,
}

impl ObjectStore {
    /// That store.
    ///
    /// # Errors
    /// When its endpoint is none.
    pub(crate) fn new(config: S3Config, keys: CredentialChain) -> Result<Self, S3Error> {
        Ok(Self { store: S3::new(config)?, keys })
    }

    /// AWS's own, without keys.
    #[cfg(test)]
    pub(crate) fn nobodys() -> Self {
        Self::new(S3Config::new("us-east-1"), CredentialChain::default()).unwrap()
    }

    /// An object, as the first who may read it: this machine, the task's execution role, everybody. The machine comes first,
    /// because the role's keys are often this control plane's own, and mean nothing to a store that is somebody else's.
    async fn get(&self, role: Option<sigv4::Credentials>, object: &ObjectName) -> Result<Bytes, S3Error> {
        let own = match self.keys.find().await {
            Found::Keys(keys) => Some(keys.for_signing()),
            Found::Nothing(_) => None,
        };
        let mut refusal = None;
        for keys in own.iter().chain(&role) {
            match self.store.get(Some(keys), object, MOST_BYTES).await {
                Err(error @ S3Error::Refused { status: 401 | 403, .. }) => drop(refusal.get_or_insert(error)),
                answer => return answer,
            }
        }
        let answer = self.store.get(None, object, MOST_BYTES).await;
        // Why somebody who is known may not read it says more than that strangers may not.
        answer.map_err(|error| refusal.unwrap_or(error))
    }
}

/// Fetches a container's files.
pub(super) async fn fetch(
    objects: &ObjectStore,
    role: Option<sigv4::Credentials>,
    spec: &EnvironmentFilesSpec,
) -> Result<Made, ResourceError> {
    let failed = |why: String| format!("failed to download env files: {why}");
    let mut environment = BTreeMap::new();
    for name in &spec.objects {
        let object = ObjectName::parse(name).map_err(|expected| {
            ResourceError::Refused(failed(format!("{name:?} is not the name of an object: {expected}")))
        })?;
        let bytes = objects.get(role.clone(), &object).await.map_err(|error| {
            let why = failed(error.to_string());
            if error.is_passing() { ResourceError::Again(why) } else { ResourceError::Refused(why) }
        })?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| ResourceError::Refused(failed(format!("{object} is not text in UTF-8"))))?;
        for (name, value) in variables(text) {
            environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    let provided = Provided { environment, ..Provided::default() };
    Ok(Made { provided: [(spec.container.clone(), provided)].into(), ..Made::default() })
}

/// The variables of a file: `NAME=VALUE` on each line, taken as it is. Other lines, and those without a name or a value, are
/// passed over, as the official agent does it; of a name that comes twice, the last counts.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_variable_on_each_line() {
        let text = "# comment\nA=1\r\nB=x=y\n\nC=\n=d\nno variable\n E= spaced \nQ=\"quoted\"\nA=2\nLAST=end";
        let expected = [(" E", " spaced "), ("A", "2"), ("B", "x=y"), ("LAST", "end"), ("Q", "\"quoted\"")];
        assert_eq!(variables(text).into_iter().collect::<Vec<_>>(), expected);
    }
}
