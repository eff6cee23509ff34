//! Variables with where they came from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::value::{go_bool, go_duration};
use super::{ConfigError, ConfigFiles};

pub(super) const MINUTE: u64 = 60;
pub(super) const HOUR: u64 = 3600;

/// Where the installer and the operator put `ecs.config`, low to high.
const DEFAULT_FILES: [&str; 2] = ["/var/lib/ecs/ecs.config", "/etc/ecs/ecs.config"];
/// In the data directory: what was given to `longshore agent join` by flags.
pub(crate) const SAVED_FILE: &str = "ecs.config";

const DATA_DIR: &str = "ECS_DATADIR";
const DEFAULT_DATA_DIR: &str = "/var/lib/ecs/data";

/// Values with where they came from, and which of them somebody asked for.
#[derive(Default)]
pub(crate) struct Source {
    values: BTreeMap<String, (String, String)>,
    asked: BTreeSet<&'static str>,
}

impl Source {
    /// Everything there is, the highest last: files, then `env`.
    pub(crate) fn load(
        files: &ConfigFiles,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut source = Self::default();
        match files {
            ConfigFiles::One(path) => source.add_file(path, true)?,
            ConfigFiles::Usual => source.add_usual_files()?,
            ConfigFiles::UsualAbove(object) => {
                source.add_text(&object.text, &object.name.to_string());
                source.add_usual_files()?;
            }
        }
        for (name, value) in env {
            source.add(&name, &value, "the environment");
        }
        // Lowest of all, but found only now.
        let mut saved = Self::default();
        saved.add_file(&source.data_dir().join(SAVED_FILE), false)?;
        saved.values.remove(DATA_DIR);
        for (name, value) in saved.values {
            source.values.entry(name).or_insert(value);
        }
        Ok(source)
    }

    pub(super) fn add(&mut self, name: &str, value: &str, origin: &str) {
        self.values.insert(name.to_owned(), (value.to_owned(), origin.to_owned()));
    }

    fn add_usual_files(&mut self) -> Result<(), ConfigError> {
        DEFAULT_FILES.iter().try_for_each(|path| self.add_file(Path::new(path), false))
    }

    pub(super) fn add_file(&mut self, path: &Path, required: bool) -> Result<(), ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(source) => {
                return Err(ConfigError::Unreadable { path: path.to_owned(), source });
            }
        };
        self.add_text(&text, &path.display().to_string());
        Ok(())
    }

    /// One `KEY=VALUE` per line, split at the first `=`, trimmed; no quotes, no comments: a line without `=` is
    /// skipped. That is how the official tooling reads the file.
    fn add_text(&mut self, text: &str, origin: &str) {
        for line in text.lines() {
            if let Some((name, value)) = line.split_once('=') {
                self.add(name.trim(), value.trim(), origin);
            }
        }
    }

    /// The value, if it is set to something.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.asked.insert(name);
        let (value, _) = self.values.get(name)?;
        (!value.is_empty()).then(|| value.clone())
    }

    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        match self.text(name) {
            None => Ok(default),
            Some(value) => parse(&value).map_err(|expected| self.bad(name, expected)),
        }
    }

    pub(super) fn bad(&self, name: &'static str, expected: String) -> ConfigError {
        let (value, origin) = self.values.get(name).cloned().unwrap_or_default();
        ConfigError::BadValue { name, value, origin, expected }
    }

    /// As [`Self::bad`], about a value that no log may hold.
    pub(super) fn bad_secret(&self, name: &'static str, expected: String) -> ConfigError {
        let (_, origin) = self.values.get(name).cloned().unwrap_or_default();
        ConfigError::BadSecret { name, origin, expected }
    }

    /// A comma-separated list; no value is an empty one.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.parsed(name, default, |text| go_bool(text).map_err(str::to_owned))
    }

    pub(super) fn duration(&mut self, name: &'static str, default_s: u64, min_s: u64) -> Result<Duration, ConfigError> {
        self.parsed(name, Duration::from_secs(default_s), |text| {
            let duration = go_duration(text).map_err(str::to_owned)?;
            if duration < Duration::from_secs(min_s) {
                return Err(format!("at least {min_s}s"));
            }
            Ok(duration)
        })
    }

    pub(super) fn integer(&mut self, name: &'static str, default: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
        self.parsed(name, default, |text| match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(format!("a whole number from {min} to {max}")),
        })
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        default: T,
    ) -> Result<T, ConfigError> {
        self.parsed(name, default, |text| serde_json::from_str(text).map_err(|error| format!("{expected} ({error})")))
    }

    /// Where the agent keeps its files.
    pub(crate) fn data_dir(&self) -> PathBuf {
        match self.values.get(DATA_DIR) {
            Some((value, _)) if !value.is_empty() => PathBuf::from(value),
            _ => PathBuf::from(DEFAULT_DATA_DIR),
        }
    }

    /// The value as it was found, and where.
    pub(super) fn value_and_origin(&self, name: &str) -> (String, String) {
        self.values.get(name).cloned().unwrap_or_default()
    }

    /// Variables with a value that nobody asked for.
    pub(super) fn unasked(&self) -> impl Iterator<Item = (&str, &str)> {
        let unasked = |name: &str| name != DATA_DIR && !self.asked.contains(name);
        self.values
            .iter()
            .filter(move |(name, (value, _))| !value.is_empty() && unasked(name))
            .map(|(name, (value, _))| (name.as_str(), value.as_str()))
    }
}
