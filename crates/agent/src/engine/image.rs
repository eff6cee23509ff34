//! The images of the machine: which of them tasks used, and which may go.
//!
//! One [`ImageBook`] serves all container instances of the process: they share the Docker Engine. It is as pure as the rest of
//! the engine: what Docker has comes in as a [`Scene`], what is to be removed goes out as a list. Whoever removes looks again
//! right before ([`ImageBook::may_go`]), because a task may have taken the image meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

/// A use is saved only if the one saved before is older: a task that comes every second must not be a write every second.
const REFRESH_MS: i64 = 60_000;

/// What is kept of an image that a task used. Durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// As task definitions spell it.
    names: BTreeSet<String>,
    /// Whether a task's pull brought it here.
    pulled: bool,
    /// When a container last used it.
    used_at: Timestamp,
}

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageChange {
    Put { id: String, record: Vec<u8> },
    Drop { id: String },
}

/// When images and containers go.
#[derive(Clone, Debug)]
pub(crate) struct CleanupRules {
    /// Since a tracked image was last used.
    pub(crate) minimum_age_ms: i64,
    /// Images in one round, tracked and untracked together.
    pub(crate) images_per_round: usize,
    /// What nobody's task brought here goes, too.
    pub(crate) untracked: bool,
    /// Since an untracked image was made, or first seen.
    pub(crate) untracked_age_ms: i64,
    /// Since a foreign container ended.
    pub(crate) container_age_ms: i64,
    /// Foreign containers in one round.
    pub(crate) containers_per_round: usize,
    /// Names of images that never go.
    pub(crate) exclude: BTreeSet<String>,
}

/// Since an image was last used, while there is little room: whoever is between two steps of a task keeps it.
const HURRIED_AGE_MS: i64 = 60_000;

impl CleanupRules {
    /// The same while there is little room on the disk: everything unused goes.
    pub(crate) fn hurried(&self) -> Self {
        Self {
            minimum_age_ms: self.minimum_age_ms.min(HURRIED_AGE_MS),
            images_per_round: usize::MAX,
            untracked_age_ms: self.untracked_age_ms.min(HURRIED_AGE_MS),
            ..self.clone()
        }
    }
}

/// What there is on the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) images: Vec<LocalImage>,
    pub(crate) containers: Vec<LocalContainer>,
    /// Images that tasks of any instance need, as task definitions spell them.
    pub(crate) wanted: BTreeSet<String>,
}

/// An image in Docker's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalImage {
    pub(crate) id: String,
    /// `web:1`; several, or none.
    pub(crate) tags: Vec<String>,
    /// `web@sha256:…`; none if it was never in a registry.
    pub(crate) digests: Vec<String>,
    /// When it was built, wherever that was.
    pub(crate) created_at: Timestamp,
    pub(crate) size: u64,
}

/// A container in Docker's list, of whomever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalContainer {
    pub(crate) id: String,
    pub(crate) image_id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) running: bool,
    /// It belongs to a task, of ours or of another agent on this Engine.
    pub(crate) of_a_task: bool,
}

/// An image to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) id: String,
    /// What to remove one by one: its tags and digests, or its id.
    pub(crate) references: Vec<String>,
    /// Its last use when this was decided; none for an untracked one.
    used_at: Option<Timestamp>,
}

/// All images that tasks used.
#[derive(Debug, Default)]
pub(crate) struct ImageBook {
    /// By image id.
    records: BTreeMap<String, ImageRecord>,
    /// When an untracked image was first seen. Volatile: after a restart it is young again.
    strangers: BTreeMap<String, Timestamp>,
}

impl ImageBook {
    /// What an earlier agent saved. A use that lies ahead was written by a clock that was wrong.
    pub(crate) fn restored(saved: &BTreeMap<String, Vec<u8>>, now: Timestamp) -> Self {
        let read = |(id, bytes): (&String, &Vec<u8>)| {
            let mut record: ImageRecord = serde_json::from_slice(bytes).ok()?;
            record.used_at = record.used_at.min(now);
            Some((id.clone(), record))
        };
        Self { records: saved.iter().filter_map(read).collect(), strangers: BTreeMap::new() }
    }

    /// A container is about to use an image under this name. Answers with what is to be saved.
    pub(crate) fn used(&mut self, id: &str, name: &str, pulled: bool, now: Timestamp) -> Vec<ImageChange> {
        let mut changes = Vec::new();
        // A name means one image: that of the latest pull.
        for (other, record) in self.records.iter_mut().filter(|(other, _)| *other != id) {
            if record.names.remove(name) {
                changes.push(put(other, record));
            }
        }
        let fresh = || ImageRecord { names: BTreeSet::new(), pulled: false, used_at: now };
        let known = self.records.contains_key(id);
        let record = self.records.entry(id.to_owned()).or_insert_with(fresh);
        let news = record.names.insert(name.to_owned()) || (pulled && !record.pulled);
        let stale = now.since(record.used_at) >= REFRESH_MS;
        record.pulled |= pulled;
        record.used_at = record.used_at.max(now);
        if !known || news || stale {
            changes.push(put(id, record));
        }
        changes
    }

    /// Whether a task's pull brought the image here under this name.
    pub(crate) fn was_pulled(&self, id: &str, name: &str) -> bool {
        self.records.get(id).is_some_and(|record| record.pulled && record.names.contains(name))
    }

    /// The clock jumped: ages stay what they were.
    pub(crate) fn clock_set(&mut self, by_ms: i64) -> Vec<ImageChange> {
        let times = self.records.values_mut().map(|record| &mut record.used_at).chain(self.strangers.values_mut());
        times.for_each(|at| *at = at.plus_millis(by_ms));
        self.records.iter().map(|(id, record)| put(id, record)).collect()
    }

    /// One round: what is to be saved, and which images are to go, in order. Images of existing containers stay, whosever the
    /// container is; so do those of tasks that will need them, and those that no registry could give back.
    pub(crate) fn round(
        &mut self,
        scene: &Scene,
        rules: &CleanupRules,
        now: Timestamp,
    ) -> (Vec<ImageChange>, Vec<Removal>) {
        let mut changes = self.forget_missing(scene);
        let in_use = self.in_use(scene);
        for (id, record) in self.records.iter_mut().filter(|(id, _)| in_use.contains(id.as_str())) {
            if now.since(record.used_at) >= REFRESH_MS {
                record.used_at = now;
                changes.push(put(id, record));
            }
        }
        let stays = |image: &LocalImage| {
            in_use.contains(image.id.as_str()) || rules.exclude.iter().any(|name| image.is_called(name))
        };
        let mut tracked = Vec::new();
        let mut untracked = Vec::new();
        for image in scene.images.iter().filter(|image| !stays(image)) {
            match self.records.get(&image.id) {
                Some(record) => {
                    let old = now.since(record.used_at) >= rules.minimum_age_ms;
                    if old && !image.digests.is_empty() && record.names_all_of(image) {
                        tracked.push((record.used_at, image));
                    }
                }
                None if rules.untracked => {
                    let seen = *self.strangers.entry(image.id.clone()).or_insert(now);
                    if now.since(seen.max(image.created_at)) >= rules.untracked_age_ms {
                        untracked.push((image.size, image));
                    }
                }
                None => {}
            }
        }
        // The least recently used go first; of strangers the smallest, as the official agent has it.
        tracked.sort_by(|one, other| (one.0, &one.1.id).cmp(&(other.0, &other.1.id)));
        untracked.sort_by(|one, other| (one.0, &one.1.id).cmp(&(other.0, &other.1.id)));
        let tracked = tracked.into_iter().map(|(used_at, image)| image.removal(Some(used_at)));
        let untracked = untracked.into_iter().map(|(_, image)| image.removal(None));
        (changes, tracked.chain(untracked).take(rules.images_per_round).collect())
    }

    /// Whether nothing happened to the image since its removal was decided.
    pub(crate) fn may_go(&self, removal: &Removal) -> bool {
        self.records.get(&removal.id).map(|record| record.used_at) == removal.used_at
    }

    /// The image is gone.
    pub(crate) fn removed(&mut self, id: &str) -> Option<ImageChange> {
        self.strangers.remove(id);
        self.records.remove(id).map(|_| ImageChange::Drop { id: id.to_owned() })
    }

    /// Somebody else removed some.
    fn forget_missing(&mut self, scene: &Scene) -> Vec<ImageChange> {
        let there: BTreeSet<&str> = scene.images.iter().map(|image| image.id.as_str()).collect();
        self.strangers.retain(|id, _| there.contains(id.as_str()));
        let missing: Vec<String> = self.records.keys().filter(|id| !there.contains(id.as_str())).cloned().collect();
        missing.iter().filter_map(|id| self.removed(id)).collect()
    }

    fn in_use<'a>(&self, scene: &'a Scene) -> BTreeSet<&'a str> {
        let wanted = scene.images.iter().filter(|image| {
            let by_record = |record: &ImageRecord| !record.names.is_disjoint(&scene.wanted);
            self.records.get(&image.id).is_some_and(by_record) || scene.wanted.iter().any(|name| image.is_called(name))
        });
        let of_containers = scene.containers.iter().map(|container| container.image_id.as_str());
        of_containers.chain(wanted.map(|image| image.id.as_str())).collect()
    }
}

impl ImageRecord {
    /// Whether tasks gave it all its tags: one that somebody else named is somebody else's as well.
    fn names_all_of(&self, image: &LocalImage) -> bool {
        image.tags.iter().all(|tag| self.names.iter().any(|name| familiar(name) == familiar(tag)))
    }
}

impl LocalImage {
    fn is_called(&self, name: &str) -> bool {
        let name_in_full = familiar(name);
        self.id == name || self.tags.iter().chain(&self.digests).any(|known| familiar(known) == name_in_full)
    }

    fn removal(&self, used_at: Option<Timestamp>) -> Removal {
        let of_no_tag = |digest: &&String| !self.tags.iter().any(|tag| repository(tag) == repository(digest));
        // A digest goes with the last tag of its repository; one that came without a tag holds the image by itself.
        let references = match self.tags.as_slice() {
            [] if self.digests.len() < 2 => vec![self.id.clone()],
            tags => tags.iter().chain(self.digests.iter().filter(of_no_tag)).cloned().collect(),
        };
        Removal { id: self.id.clone(), references, used_at }
    }
}

/// The containers that no agent made, that do not run and are old enough to have ended long ago: the oldest first.
pub(crate) fn foreign_containers<'a>(
    scene: &'a Scene,
    rules: &CleanupRules,
    now: Timestamp,
) -> Vec<&'a LocalContainer> {
    let due = |container: &&LocalContainer| {
        let age_ms = now.since(container.created_at);
        !container.running && !container.of_a_task && age_ms >= rules.container_age_ms
    };
    let mut foreign: Vec<&LocalContainer> = scene.containers.iter().filter(due).collect();
    foreign.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
    foreign
}

fn put(id: &str, record: &ImageRecord) -> ImageChange {
    // Plain values: writing them to memory cannot fail.
    ImageChange::Put { id: id.to_owned(), record: serde_json::to_vec(record).unwrap_or_default() }
}

/// `web` of `web:1` and of `web@sha256:…`.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

/// The one spelling of an image's name that Docker shows: `web:latest` for `docker.io/library/web`.
fn familiar(name: &str) -> String {
    let short = ["docker.io/library/", "docker.io/", "index.docker.io/library/", "index.docker.io/", "library/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains([':', '@']) { short.to_owned() } else { format!("{short}:latest") }
}
