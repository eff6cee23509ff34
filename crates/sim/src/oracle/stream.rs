//! A reader of the event stream, who reads whatever becomes visible and keeps his cursor through every crash: invariant 13.

use std::collections::BTreeMap;

use longshore_core::entity::Task;
use longshore_core::event::{Cursor, Filter, Reading, Start};
use longshore_core::read::ReadModel;
use longshore_core::{Principal, Role};
use serde_json::Value;

use super::{Step, broken, ensure, id_of};

/// What was told of a resource last.
#[derive(Debug)]
struct Told {
    version: i64,
    last_status: String,
    desired_status: String,
}

/// The reader.
#[derive(Debug)]
pub(super) struct Stream {
    owner: Principal,
    at: Option<Cursor>,
    told: BTreeMap<String, Told>,
    /// It has seen everything from the beginning.
    whole: bool,
}

impl Stream {
    pub(super) fn new() -> Self {
        let owner = Principal::new(Role::Owner, "AKIAREADER", "000000000000");
        Self { owner, at: None, told: BTreeMap::new(), whole: true }
    }

    /// Reads what a publication made visible. A cursor of an earlier publication is good, unless the clock leapt.
    pub(super) fn published(&mut self, snapshot: &ReadModel, leapt: bool) -> Step {
        let filter = Filter::default();
        let oldest = snapshot.begin_events(&self.owner, Start::Oldest, &filter);
        let mut at = match (self.at, oldest) {
            (Some(at), _) | (None, Ok(at)) => at,
            (None, Err(error)) => return broken(13, format!("the stream cannot be begun: {}", error.message)),
        };
        loop {
            let Reading { events, next, complete } = match snapshot.read_events(&self.owner, at, &filter) {
                Ok(reading) => reading,
                Err(error) if leapt && error.code.name == "CursorExpiredException" => {
                    self.at = None;
                    self.told.clear();
                    self.whole = false;
                    return Ok(());
                }
                Err(error) => return broken(13, format!("the cursor {at} is refused: {}", error.message)),
            };
            for (_, event) in events {
                self.tell(&event)?;
            }
            at = next;
            if complete {
                self.at = Some(at);
                return Ok(());
            }
        }
    }

    fn tell(&mut self, event: &str) -> Step {
        let event: Value = serde_json::from_str(event).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let id = id_of(event["resources"][0].as_str().unwrap_or_default()).to_owned();
        let detail = &event["detail"];
        let version = detail["version"].as_i64().unwrap_or_default();
        let (last_status, desired_status) = (text(&detail["lastStatus"]), text(&detail["desiredStatus"]));
        let before = self.told.insert(id.clone(), Told { version, last_status, desired_status });
        let before = before.map_or(0, |told| told.version);
        ensure(before < version, 13, || format!("{id} was told with version {version} after version {before}"))
    }

    /// What a task is, was told.
    pub(super) fn knows(&self, task: &Task) -> Step {
        let Some(told) = self.told.get(&task.key.id.to_string()) else {
            return ensure(!self.whole, 13, || format!("no event told of {:?}", task.key));
        };
        let same = told.last_status == task.last_status().as_str()
            && told.desired_status == task.desired_status().as_str()
            && told.version <= task.version;
        ensure(same, 13, || format!("{:?} is {}, and {told:?} was told", task.key, task.last_status()))
    }
}
