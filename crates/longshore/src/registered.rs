//! `run.json`: which revision each definition file became, so that `up --run` does not register the same one again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, read_json, write_json};
use crate::error::CliError;

/// By family. `longshore up --run` is its only writer; two at once would at worst register a revision too many.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Registered(BTreeMap<String, Revision>);

#[derive(Debug, Serialize, Deserialize)]
struct Revision {
    /// The file as it was, for there is no telling from a revision, in which defaults are filled in, what was asked for.
    definition: String,
    arn: String,
}

impl Registered {
    pub(crate) fn read(data_dir: &DataDir) -> Result<Self, CliError> {
        Ok(read_json(&path(data_dir))?.unwrap_or_default())
    }

    /// The revision that this definition became, if it was the last one of its family that was registered here.
    pub(crate) fn revision(&self, family: &str, definition: &[u8]) -> Option<&str> {
        let revision = self.0.get(family)?;
        (revision.definition.as_bytes() == definition).then_some(&revision.arn)
    }

    pub(crate) fn write(
        mut self,
        data_dir: &DataDir,
        family: &str,
        definition: &[u8],
        arn: &str,
    ) -> Result<(), CliError> {
        let definition = String::from_utf8_lossy(definition).into_owned();
        self.0.insert(family.to_owned(), Revision { definition, arn: arn.to_owned() });
        write_json(&path(data_dir), &self)
    }
}

fn path(data_dir: &DataDir) -> PathBuf {
    data_dir.path().join("run.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_definition_of_a_family_is_known_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(folder.path()).unwrap();
        let known =
            |definition: &[u8]| Registered::read(&data_dir).unwrap().revision("web", definition).map(str::to_owned);
        assert_eq!(known(b"{}"), None);
        Registered::read(&data_dir).unwrap().write(&data_dir, "web", b"{}", "web:1").unwrap();
        assert_eq!(known(b"{}"), Some("web:1".to_owned()));
        assert_eq!(known(b"{ }"), None);
        Registered::read(&data_dir).unwrap().write(&data_dir, "web", b"{ }", "web:2").unwrap();
        assert_eq!((known(b"{}"), known(b"{ }")), (None, Some("web:2".to_owned())));
    }
}
