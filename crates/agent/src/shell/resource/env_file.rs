//! Environment files: fetched from an object store, never written down here.

use std::collections::BTreeMap;

use bytes::Bytes;
use longshore_client::{ObjectName, S3, S3Config, S3Error};
use longshore_wire::sigv4;

use crate::config::credential_chain::Found;
use crate::config::environment_files::{BUCKETS, OwnKeys};
use crate::engine::{EnvironmentFilesSpec, Made, Provided, ResourceError};

/// More than a process can be started with.
const MOST_BYTES: usize = 4 << 20;

/// Where objects are to be had, and which of them with keys of this machine.
#[derive(Clone, Debug)]
pub(crate) struct ObjectStore {
    store: S3,
    own_keys: OwnKeys,
}

impl ObjectStore {
    /// That store.
    ///
    /// # Errors
    /// When its endpoint is none.
    pub(crate) fn new(config: S3Config, own_keys: OwnKeys) -> Result<Self, S3Error> {
        Ok(Self { store: S3::new(config)?, own_keys })
    }

    /// AWS's own, without keys.
    #[cfg(test)]
    pub(crate) fn nobodys() -> Self {
        Self::new(S3Config::new("us-east-1"), OwnKeys::default()).unwrap()
    }

    /// An object, as the one who may have it: the task's execution role; this machine, or whoever it is to a store that it has
    /// no keys for, where the operator says so.
    async fn get(&self, role: Option<&sigv4::Credentials>, object: &ObjectName) -> Result<Bytes, ResourceError> {
        if self.own_keys.are_for(object) {
            let keys = match self.own_keys.chain.find().await {
                Found::Keys(keys) => Some(keys.for_signing()),
                Found::Nothing(_) => None,
            };
            return self.store.get(keys.as_ref(), object, MOST_BYTES).await.map_err(|error| failure(&error, ""));
        }
        let Some(role) = role else {
            return Err(ResourceError::Again(format!(
                "the credentials of the task's execution role, which {object} needs, have not come yet: give the task \
                 definition an executionRoleArn, or name the bucket in {BUCKETS}"
            )));
        };
        let hint = format!(" (as the task's execution role; this machine's own keys are for the buckets of {BUCKETS})");
        self.store.get(Some(role), object, MOST_BYTES).await.map_err(|error| match error {
            S3Error::Refused { status: 401 | 403, .. } => failure(&error, &hint),
            error => failure(&error, ""),
        })
    }
}

fn failure(error: &S3Error, hint: &str) -> ResourceError {
    let why = format!("{error}{hint}");
    if error.is_passing() { ResourceError::Again(why) } else { ResourceError::Refused(why) }
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
        let bytes = objects.get(role.as_ref(), &object).await.map_err(|error| match error {
            ResourceError::NotYet(why) => ResourceError::NotYet(failed(why)),
            ResourceError::Again(why) => ResourceError::Again(failed(why)),
            ResourceError::Refused(why) => ResourceError::Refused(failed(why)),
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
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A store that has every object; tells as whom each was asked for.
    async fn asked_as(
        own_keys: OwnKeys,
        role: Option<&str>,
        object: &str,
    ) -> (Vec<String>, Result<Made, ResourceError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let key = head.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
                heard.lock().unwrap().push(key.unwrap_or("nobody").to_owned());
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nA=1").await.unwrap();
            }
        });
        let config = S3Config { endpoint: Some(endpoint), ..S3Config::new("us-east-1") };
        let store = ObjectStore::new(config, own_keys).unwrap();
        let role = role.map(|key| sigv4::Credentials {
            access_key_id: key.to_owned(),
            secret: sigv4::Secret::new("s".to_owned()),
            session_token: None,
        });
        let spec = EnvironmentFilesSpec { container: "main".to_owned(), objects: vec![object.to_owned()] };
        let made = fetch(&store, role, &spec).await;
        serving.abort();
        let asked = asked.lock().unwrap().clone();
        (asked, made)
    }

    #[tokio::test]
    async fn a_task_gets_what_its_role_may_have_and_what_the_machine_shares() {
        let object = "arn:aws:s3:::conf/app.env";
        let machine = |buckets: &str| OwnKeys::of_machine("MACHINE", buckets);
        for (buckets, role, expected) in [
            ("", Some("ROLE"), Some("ROLE")),
            ("other", Some("ROLE"), Some("ROLE")),
            ("conf", Some("ROLE"), Some("MACHINE")),
            ("conf", None, Some("MACHINE")),
            ("other", None, None),
        ] {
            let (asked, made) = asked_as(machine(buckets), role, object).await;
            assert_eq!(asked, Vec::from_iter(expected), "{buckets:?} {role:?}");
            assert_eq!(made.is_ok(), expected.is_some());
        }
    }

    #[test]
    fn a_file_is_a_variable_on_each_line() {
        let text = "# comment\nA=1\r\nB=x=y\n\nC=\n=d\nno variable\n E= spaced \nQ=\"quoted\"\nA=2\nLAST=end";
        let expected = [(" E", " spaced "), ("A", "2"), ("B", "x=y"), ("LAST", "end"), ("Q", "\"quoted\"")];
        assert_eq!(variables(text).into_iter().collect::<Vec<_>>(), expected);
    }
}
