//! `--launcher`: what adds machines to a capacity provider and removes them.

use std::path::PathBuf;
use std::str::FromStr;

use longshore_core::config::FleetSize;
use longshore_server::launcher::LauncherConfig;

/// `NAME[:MIN-MAX]=PROGRAM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LauncherSpec(pub(crate) LauncherConfig);

impl FromStr for LauncherSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || "a launcher is given as NAME=/path/to/program or NAME:MIN-MAX=/path/to/program".to_owned();
        let (who, program) = text.split_once('=').ok_or_else(refused)?;
        let (name, size) = match who.split_once(':') {
            None => (who, FleetSize::default()),
            Some((name, size)) => (name, fleet_size(size).ok_or_else(refused)?),
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(good) {
            return Err("the name of a launcher has letters, digits, hyphens, underscores and dots".to_owned());
        }
        // The server's directory is not the one that it was started from in every service manager.
        match program.starts_with('/') {
            true => Ok(Self(LauncherConfig { name: name.into(), size, program: PathBuf::from(program) })),
            false => Err("the program of a launcher is given by its absolute path".to_owned()),
        }
    }
}

fn fleet_size(text: &str) -> Option<FleetSize> {
    let (minimum, maximum) = text.split_once('-')?;
    let size = FleetSize { minimum: minimum.parse().ok()?, maximum: maximum.parse().ok()? };
    (size.minimum <= size.maximum && (1..=MOST_MACHINES).contains(&size.maximum)).then_some(size)
}

/// Machines of one launcher: the largest step that ECS has.
const MOST_MACHINES: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_has_a_name_a_program_and_perhaps_bounds() {
        let spec = |text: &str| text.parse::<LauncherSpec>().map(|spec| spec.0);
        let config = |minimum, maximum| LauncherConfig {
            name: "local".into(),
            size: FleetSize { minimum, maximum },
            program: "/opt/launch".into(),
        };
        assert_eq!(spec("local=/opt/launch"), Ok(config(0, 100)));
        assert_eq!(spec("local:2-8=/opt/launch"), Ok(config(2, 8)));
        let bad = [
            "",
            "local",
            "=/x",
            "lo cal=/x",
            "local=x",
            "local=",
            "local:8-2=/x",
            "local:0-0=/x",
            "local:1=/x",
            "l:0-99999=/x",
        ];
        for bad in bad {
            assert!(spec(bad).is_err(), "{bad}");
        }
    }
}
