//! What `longshore up` is asked for. `up.json` remembers it, so that the next `up` needs to be told only what changes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cli::{DEFAULT_LISTEN, LostAfter, UpArgs};
use crate::error::CliError;

/// The settings of one data directory's server and agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) instances: u32,
    pub(crate) insecure: bool,
    pub(crate) tls: Tls,
    pub(crate) cpu: Option<String>,
    pub(crate) memory: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) instance_lost_after: Option<LostAfter>,
    pub(crate) mass_loss_brake: Option<u8>,
}

/// How the server proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Tls {
    /// It does not.
    #[default]
    Off,
    /// With a certificate of its own authority, also for these names.
    Own { names: Vec<String> },
    /// With the one it is given.
    Given { cert: PathBuf, key: PathBuf },
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            instances: 1,
            insecure: false,
            tls: Tls::Off,
            cpu: None,
            memory: None,
            zone: None,
            instance_lost_after: None,
            mass_loss_brake: None,
        }
    }
}

impl Settings {
    /// These settings with what the arguments say in their place.
    pub(crate) fn with(mut self, args: &UpArgs) -> Result<Self, CliError> {
        let absolute =
            |path: &PathBuf| std::path::absolute(path).map_err(CliError::file("find the absolute path of", path));
        self.listen = args.listen.unwrap_or(self.listen);
        self.instances = args.instances.unwrap_or(self.instances);
        self.insecure = args.insecure.insecure.unwrap_or(self.insecure);
        // An empty value takes back what was set before.
        let text = |given: &Option<String>, before: Option<String>| match given {
            Some(given) => Some(given.clone()).filter(|given| !given.is_empty()),
            None => before,
        };
        self.cpu = text(&args.sizes.cpu, self.cpu);
        self.memory = text(&args.sizes.memory, self.memory);
        self.zone = text(&args.sizes.zone, self.zone);
        self.instance_lost_after = args.loss.instance_lost_after.map_or(self.instance_lost_after, |given| given.0);
        self.mass_loss_brake = args.loss.mass_loss_brake.map_or(self.mass_loss_brake, |given| given.0);
        let tls = &args.tls;
        self.tls = match (tls.tls, &tls.tls_names, &tls.tls_cert, &tls.tls_key) {
            (_, _, Some(cert), Some(key)) => Tls::Given { cert: absolute(cert)?, key: absolute(key)? },
            (Some(false), ..) => Tls::Off,
            (_, Some(names), ..) => Tls::Own { names: names.iter().filter(|name| !name.is_empty()).cloned().collect() },
            (Some(true), ..) => match self.tls {
                own @ Tls::Own { .. } => own,
                Tls::Off | Tls::Given { .. } => Tls::Own { names: Vec::new() },
            },
            (None, ..) => self.tls,
        };
        Ok(self)
    }

    /// Refuses what the server would refuse, before anything is started: its answer would be in a log.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let beyond_this_machine = !self.listen.ip().is_loopback();
        if beyond_this_machine && self.tls == Tls::Off && !self.insecure {
            return Err(CliError::PlainHttpBeyondLoopback { listen: self.listen });
        }
        Ok(())
    }

    /// Whether these settings make the same server; if not, it is to be started anew.
    pub(crate) fn same_server(&self, other: &Self) -> bool {
        self.server_flags() == other.server_flags()
    }

    /// Settings of the server as arguments for it.
    pub(crate) fn server_arguments(&self) -> Vec<OsString> {
        arguments(self.server_flags())
    }

    /// Settings of the agent as variables for it; those without a value are not to be set.
    pub(crate) fn agent_variables(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("LONGSHORE_INSTANCES", Some(self.instances.to_string())),
            ("LONGSHORE_CPU", self.cpu.clone()),
            ("LONGSHORE_MEMORY", self.memory.clone()),
            ("LONGSHORE_ZONE", self.zone.clone()),
        ]
    }

    /// In which flags two settings differ: each side as one would type it.
    pub(crate) fn differences(&self, other: &Self) -> Option<(String, String)> {
        let [mine, theirs] = [self, other].map(|settings| [settings.server_flags(), settings.agent_flags()].concat());
        let only = |these: &[Flag], those: &[Flag]| {
            let missing: Vec<Flag> = these.iter().filter(|flag| !those.contains(flag)).cloned().collect();
            let words: Vec<String> =
                arguments(missing).into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
            if words.is_empty() { "the default".to_owned() } else { words.join(" ") }
        };
        (mine != theirs).then(|| (only(&mine, &theirs), only(&theirs, &mine)))
    }

    fn server_flags(&self) -> Vec<Flag> {
        // Whoever tries things on a machine of his own has no subnets, and definitions that name some.
        let mut flags = vec![("--listen", Some(self.listen.to_string().into())), ("--adopt-networks", None)];
        if self.insecure {
            flags.push(("--insecure", None));
        }
        match &self.tls {
            Tls::Off => {}
            Tls::Own { names } => {
                flags.push(("--tls", None));
                flags.extend(names.iter().map(|name| ("--tls-name", Some(name.into()))));
            }
            Tls::Given { cert, key } => {
                flags.push(("--tls-cert", Some(cert.into())));
                flags.push(("--tls-key", Some(key.into())));
            }
        }
        flags.extend(self.instance_lost_after.map(|after| ("--instance-lost-after", Some(after.to_string().into()))));
        flags.extend(self.mass_loss_brake.map(|percent| ("--mass-loss-brake", Some(percent.to_string().into()))));
        flags
    }

    fn agent_flags(&self) -> Vec<Flag> {
        let sizes = [("--cpu", &self.cpu), ("--memory", &self.memory), ("--zone", &self.zone)];
        let sizes = sizes.into_iter().filter_map(|(name, value)| Some((name, Some(value.as_ref()?.into()))));
        [("--instances", Some(self.instances.to_string().into()))].into_iter().chain(sizes).collect()
    }
}

/// A flag and its value.
type Flag = (&'static str, Option<OsString>);

fn arguments(flags: Vec<Flag>) -> Vec<OsString> {
    flags.into_iter().flat_map(|(name, value)| std::iter::once(name.into()).chain(value)).collect()
}

/// Variables that stand for these settings: a child is told by arguments, and must not hear of them twice.
pub(crate) const SERVER_VARIABLES: [&str; 10] = [
    "LONGSHORE_LISTEN",
    "LONGSHORE_ADOPT_NETWORKS",
    "LONGSHORE_INSECURE",
    "LONGSHORE_TLS",
    "LONGSHORE_TLS_NAMES",
    "LONGSHORE_TLS_CERT",
    "LONGSHORE_TLS_KEY",
    "LONGSHORE_INSTANCE_LOST_AFTER",
    "LONGSHORE_MASS_LOSS_BRAKE",
    "LONGSHORE_ZONE",
];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, OrDefault};

    fn args(line: &str) -> UpArgs {
        let words = ["longshore", "up"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Up(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn after(lines: &[&str]) -> Settings {
        lines.iter().fold(Settings::default(), |settings, line| settings.with(&args(line)).unwrap())
    }

    #[test]
    fn what_is_not_given_stays_as_it_was() {
        let settings = after(&["--listen 127.0.0.1:9 --instances 3 --cpu 1,2,3 --tls --mass-loss-brake 50", ""]);
        assert_eq!(settings.listen.port(), 9);
        assert_eq!((settings.instances, settings.cpu.as_deref()), (3, Some("1,2,3")));
        assert_eq!((settings.tls, settings.mass_loss_brake), (Tls::Own { names: vec![] }, Some(50)));
    }

    #[test]
    fn everything_can_be_taken_back() {
        let all =
            "--insecure --tls --tls-name a --cpu 1 --memory 2 --zone z --instance-lost-after never --mass-loss-brake 1";
        let none = "--insecure=false --tls=false --cpu= --memory= --zone= --instance-lost-after= --mass-loss-brake=";
        assert_ne!(after(&[all]), Settings::default());
        assert_eq!(after(&[all, none]), Settings::default());
    }

    #[test]
    fn one_kind_of_certificate_replaces_the_other() {
        let given = Tls::Given { cert: "/c".into(), key: "/k".into() };
        assert_eq!(after(&["--tls --tls-name a", "--tls-cert /c --tls-key /k"]).tls, given);
        assert_eq!(after(&["--tls-cert /c --tls-key /k", "--tls"]).tls, Tls::Own { names: vec![] });
        assert_eq!(after(&["--tls-name a", "--tls"]).tls, Tls::Own { names: vec!["a".into()] });
        assert_eq!(after(&["--tls-name a", "--tls-name b"]).tls, Tls::Own { names: vec!["b".into()] });
    }

    #[test]
    fn a_record_of_an_earlier_release_has_the_defaults() {
        let settings: Settings = serde_json::from_str(r#"{"listen":"127.0.0.1:8470","instances":2}"#).unwrap();
        assert_eq!(settings, Settings { instances: 2, ..Settings::default() });
        let json = serde_json::to_string(&after(&["--tls-name a --instance-lost-after 90s"])).unwrap();
        assert_eq!(
            serde_json::from_str::<Settings>(&json).unwrap(),
            after(&["--tls-name a --instance-lost-after 90s"])
        );
    }

    #[test]
    fn differences_are_said_as_one_would_type_them() {
        let one = after(&["--instances 1 --tls"]);
        assert_eq!(one.differences(&one), None);
        let two = after(&["--instances 2 --instance-lost-after never"]);
        assert_eq!(
            one.differences(&two),
            Some(("--tls --instances 1".into(), "--instance-lost-after never --instances 2".into()))
        );
        let cpu = after(&["--cpu 1"]);
        assert_eq!(cpu.differences(&Settings::default()), Some(("--cpu 1".into(), "the default".into())));
        assert!(cpu.same_server(&Settings::default()) && !one.same_server(&two));
    }

    #[test]
    fn plain_http_beyond_this_machine_is_refused_at_once() {
        assert!(after(&["--listen 0.0.0.0:1"]).check().is_err());
        for line in ["--listen 127.0.0.2:1", "--listen 0.0.0.0:1 --insecure", "--listen 10.0.0.1:1 --tls"] {
            assert!(after(&[line]).check().is_ok(), "{line}");
        }
    }

    #[test]
    fn the_server_understands_its_arguments() {
        let settings = after(&["--tls-name a --tls-name b --instance-lost-after 2m --mass-loss-brake 10"]);
        let words = ["longshore", "server"].map(OsString::from).into_iter().chain(settings.server_arguments());
        let Command::Server(args) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        assert_eq!(args.tls.tls, Some(true));
        assert_eq!(args.tls.tls_names, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(args.loss.mass_loss_brake, Some(OrDefault(Some(10))));
    }
}
