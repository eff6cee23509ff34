//! How parameters and secrets are named: in requests, and in task definitions.

use std::sync::Arc;

use super::{Parameter, StoredSecret};
use crate::config::CellConfig;
use crate::limits;
use crate::read::ReadModel;

/// A parameter as a request or a definition names it, by name or by ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParameterRef<'a> {
    name: Name<'a>,
    /// Behind the colon: a version's number, or a label.
    pub(super) selector: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name<'a> {
    /// As it is.
    Plain(&'a str),
    /// As it stands in an ARN, where the slash that a path begins with is left out.
    InArn(&'a str),
}

impl<'a> ParameterRef<'a> {
    /// Reads a name or an ARN; `None` for an ARN of something else, or of elsewhere.
    pub(super) fn parse(config: &CellConfig, given: &'a str) -> Option<Self> {
        let (name, rest): (fn(&'a str) -> Name<'a>, &str) = match given.strip_prefix("arn:") {
            None => (Name::Plain, given.trim()),
            Some(_) => (Name::InArn, config.here(given, "ssm")?.strip_prefix("parameter/")?),
        };
        let (text, selector) = rest.split_once(':').map_or((rest, None), |(text, selector)| (text, Some(selector)));
        Some(Self { name: name(text), selector })
    }

    /// What stands in the parameter's ARN: the same for a path of one level with its slash and without.
    pub(super) fn resource(&self) -> &'a str {
        let (Name::Plain(name) | Name::InArn(name)) = self.name;
        name.strip_prefix('/').unwrap_or(name)
    }
}

impl CellConfig {
    /// The resource of an ARN of a service, if it is of this region and account.
    fn here<'a>(&self, arn: &'a str, service: &str) -> Option<&'a str> {
        let mut parts = arn.splitn(6, ':').skip(1);
        let scope = &self.scope;
        let expected = [&scope.partition, service, &scope.region, &scope.account];
        expected.iter().all(|expected| parts.next() == Some(expected)).then(|| parts.next())?
    }

    /// A parameter's ARN.
    pub(super) fn parameter_arn(&self, name: &str) -> String {
        let scope = &self.scope;
        let resource = name.strip_prefix('/').unwrap_or(name);
        format!("arn:{}:ssm:{}:{}:parameter/{resource}", scope.partition, scope.region, scope.account)
    }

    /// A secret's ARN.
    pub(super) fn secret_arn(&self, secret: &StoredSecret) -> String {
        let (scope, StoredSecret { name, suffix, .. }) = (&self.scope, secret);
        format!("arn:{}:secretsmanager:{}:{}:secret:{name}-{suffix}", scope.partition, scope.region, scope.account)
    }
}

impl ReadModel {
    /// The parameter that is meant.
    pub(super) fn parameter(&self, reference: &ParameterRef<'_>) -> Option<&Arc<Parameter>> {
        // An ARN does not tell a path of one level from a name, nor does what a task's agent is told to ask for.
        let (Name::Plain(name) | Name::InArn(name)) = reference.name;
        let may_be_path = matches!(reference.name, Name::InArn(_)) || !name.contains('/');
        let path = || self.parameters.get(format!("/{name}").as_str()).filter(|_| may_be_path);
        self.parameters.get(name).or_else(path)
    }

    /// The secret that is meant by a name, an ARN, or an ARN without its last six characters. What a task definition appends
    /// to an ARN (JSON key, label, version) does not matter.
    pub(super) fn secret(&self, given: &str) -> Option<&Arc<StoredSecret>> {
        let Some(named) = secret_in_arn(&self.config, given) else { return self.secrets.get(given) };
        if let Some(secret) = self.secrets.get(named) {
            return Some(secret);
        }
        let (name, suffix) = split_suffix(named)?;
        self.secrets.get(name).filter(|secret| *secret.suffix == *suffix)
    }
}

/// The name in an ARN of a secret of this region and account, mostly with the six characters behind it.
fn secret_in_arn<'a>(config: &CellConfig, given: &'a str) -> Option<&'a str> {
    let rest = config.here(given, "secretsmanager")?.strip_prefix("secret:")?;
    rest.split(':').next()
}

fn split_suffix(named: &str) -> Option<(&str, &str)> {
    named.rsplit_once('-').filter(|(_, suffix)| suffix.len() == limits::SECRET_SUFFIX)
}

/// Whether a definition's reference means the parameter that is asked for. Versions do not matter, as they do not in IAM.
pub(super) fn means_parameter(view: &ReadModel, reference: &str, asked: &ParameterRef<'_>) -> bool {
    ParameterRef::parse(&view.config, reference).is_some_and(|reference| reference.resource() == asked.resource())
}

/// Whether a definition's reference means the secret that is asked for.
pub(super) fn means_secret(view: &ReadModel, reference: &str, asked: &str) -> bool {
    match (view.secret(reference), view.secret(asked)) {
        (Some(one), Some(other)) => one.name == other.name,
        // Of one that does not exist, whoever refers to it may know.
        (None, None) => {
            let named = secret_in_arn(&view.config, reference);
            named.is_some() && named == secret_in_arn(&view.config, asked)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_by_name_and_by_arn() {
        let config = CellConfig::new("us-east-1", "000000000000");
        let arn = "arn:aws:ssm:us-east-1:000000000000:parameter/";
        for (given, resource, selector) in [
            ("/a/b", "a/b", None),
            (" name ", "name", None),
            ("name:3", "name", Some("3")),
            (&format!("{arn}a/b"), "a/b", None),
            (&format!("{arn}name:3"), "name", Some("3")),
        ] {
            let reference = ParameterRef::parse(&config, given).expect(given);
            assert_eq!((reference.resource(), reference.selector), (resource, selector), "{given}");
        }
        for given in [
            "arn:aws:ssm:eu-west-1:000000000000:parameter/a",
            "arn:aws:ssm:us-east-1:111111111111:parameter/a",
            "arn:aws:secretsmanager:us-east-1:000000000000:secret:a-AbCdEf",
            "arn:aws:ssm:us-east-1:000000000000:document/a",
            "arn:",
        ] {
            assert_eq!(ParameterRef::parse(&config, given), None, "{given}");
        }
        assert_eq!(config.parameter_arn("/a/b"), format!("{arn}a/b"));
        assert_eq!(config.parameter_arn("b"), format!("{arn}b"));
    }
}
