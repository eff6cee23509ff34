//! As whom environment files are fetched.
//!
//! As the task's execution role, like on ECS. A store that is not AWS's knows nothing of that role, but it may know this machine:
//! the operator names the buckets in which tasks may find what this machine can read.

use std::collections::BTreeSet;

use longshore_client::ObjectName;

use super::ConfigError;
use super::credential_chain::CredentialChain;
use super::source::Source;

/// The buckets whose objects tasks get with this machine's keys.
pub(crate) const BUCKETS: &str = "LONGSHORE_ENVIRONMENT_FILE_BUCKETS";

/// What tasks get with this machine's own keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnKeys {
    /// Where the keys are.
    pub(crate) chain: CredentialChain,
    pub(super) buckets: BTreeSet<String>,
    /// The object with this machine's settings, logins to registries among them.
    pub(super) settings: Option<ObjectName>,
}

impl OwnKeys {
    pub(super) fn read(source: &mut Source, chain: CredentialChain) -> Result<Self, ConfigError> {
        let buckets: BTreeSet<String> = source.list(BUCKETS).into_iter().collect();
        let is_bucket =
            |name: &String| ObjectName::parse(&format!("s3://{name}/key")).is_ok_and(|object| object.bucket() == name);
        match buckets.iter().all(is_bucket) {
            true => Ok(Self { chain, buckets, settings: None }),
            false => Err(source.bad(BUCKETS, "names of buckets, with commas between them".to_owned())),
        }
    }

    /// Those of a machine with this access key.
    #[cfg(test)]
    pub(crate) fn of_machine(access_key_id: &str, buckets: &str) -> Self {
        let variables = [("AWS_ACCESS_KEY_ID", access_key_id), ("AWS_SECRET_ACCESS_KEY", "s"), (BUCKETS, buckets)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut source = Source::load(&super::ConfigFiles::One("/dev/null".into()), variables).unwrap();
        let chain = CredentialChain::read(&mut source).unwrap();
        Self::read(&mut source, chain).unwrap()
    }

    /// Whether an object is in one of the buckets.
    pub(crate) fn are_for(&self, object: &ObjectName) -> bool {
        self.buckets.contains(object.bucket()) && !self.settings.as_ref().is_some_and(|settings| same(settings, object))
    }
}

/// Whether some store may take one name for the other: there are stores that read keys as paths.
fn same(one: &ObjectName, other: &ObjectName) -> bool {
    let steps = |object: &ObjectName| {
        let mut steps = Vec::new();
        for step in object.key().split('/').filter(|step| !matches!(*step, "" | ".")) {
            match step {
                ".." => drop(steps.pop()),
                step => steps.push(step.to_lowercase()),
            }
        }
        steps
    };
    one.bucket() == other.bucket() && steps(one) == steps(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_settings_are_for_no_task_however_they_are_spelt() {
        let object = |name: &str| ObjectName::parse(name).unwrap();
        let keys = OwnKeys {
            buckets: ["conf".to_owned()].into(),
            settings: Some(object("s3://conf/fleet/ecs.config")),
            ..OwnKeys::default()
        };
        for (name, expected) in [
            ("arn:aws:s3:::conf/app.env", true),
            ("arn:aws:s3:::conf/fleet/app.env", true),
            ("arn:aws:s3:::other/app.env", false),
            ("arn:aws:s3:::conf/fleet/ecs.config", false),
            ("s3://conf//fleet/./ecs.config", false),
            ("s3://conf/x/../fleet/ECS.config", false),
            ("s3://conf/../fleet/ecs.config", false),
        ] {
            assert_eq!(keys.are_for(&object(name)), expected, "{name}");
        }
        assert!(!OwnKeys::default().are_for(&object("s3://conf/app.env")), "nobody said so");
    }
}
