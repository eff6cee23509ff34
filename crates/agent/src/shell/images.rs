//! The machine's images: who uses them, and the rounds in which unused ones are removed.
//!
//! There is one of this in a process, for all its container instances. Finding an image for a container and removing one
//! exclude each other, and a find counts as a use: so no image goes that a task was just told is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_api::Timestamp;
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio::time::sleep;
use tracing::{info, warn};

use super::Shared;
use super::clock::Clock;
use super::registry::Source;
use crate::config::RegistryLogin;
use crate::engine::ImageInfo;
use crate::engine::docker::{self, Docker, DockerError, LABEL_INSTANCE, LABEL_TASK, Phase, PullLimits};
use crate::engine::image::{
    CleanupRules, ImageBook, ImageChange, LocalContainer, LocalImage, Removal, Scene, foreign_containers,
};
use crate::pause;
use crate::state::{Change, State};
use longshore_client::now;

/// At least so long after a round comes the next one.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(10);
/// Foreign containers that are looked at in one round, because a list does not say when one ended.
const MOST_INSPECTIONS: usize = 200;

/// What is known of the images, and the clock by which. They go together: all times of the book are of the same clock, whoever
/// looks at it first after a jump.
struct Known {
    book: ImageBook,
    clock: Clock,
}

impl Known {
    /// The time, and what a jump of the clock has changed.
    fn now(&mut self) -> (Timestamp, Vec<ImageChange>) {
        let (now, jump) = self.clock.read();
        (now, jump.map(|by_ms| self.book.clock_set(by_ms)).unwrap_or_default())
    }
}

/// Asks an instance which images its tasks need.
pub(crate) type Question = oneshot::Sender<BTreeSet<String>>;

/// The images, and who uses them.
pub(crate) struct Images {
    known: Mutex<Known>,
    /// Finding shares it, removing has it alone.
    gate: RwLock<()>,
    state: State,
}

impl Images {
    /// With what an earlier agent saved.
    pub(crate) fn new(state: State, saved: &BTreeMap<String, Vec<u8>>) -> Self {
        let known = Known { book: ImageBook::restored(saved, now()), clock: Clock::new() };
        Self { known: Mutex::new(known), gate: RwLock::new(()), state }
    }

    /// The image of that name, which a container is about to use; the Engine may know it by another one.
    pub(crate) async fn find(
        &self,
        docker: &impl Docker,
        known_as: &str,
        name: &str,
    ) -> Result<ImageInfo, DockerError> {
        self.take(docker, known_as, name, false).await
    }

    /// Pulls the image that a container is about to use: what its name stands for now, or what it stood for when its registry was
    /// asked.
    pub(crate) async fn pull(
        &self,
        docker: &impl Docker,
        name: &str,
        digest: Option<&str>,
        login: Option<&RegistryLogin>,
        limits: PullLimits,
    ) -> Result<ImageInfo, DockerError> {
        match digest.filter(|_| !name.contains('@')) {
            // Nobody has it but us; and one that is there is the one, by its name.
            None if name == pause::image() => match docker.inspect_image(name).await {
                Err(DockerError::NotFound(_)) => {
                    docker.import(pause::archive(), name, pause::IMPORT_CHANGE).await?;
                }
                other => drop(other?),
            },
            None => docker.pull(name, login, limits).await?,
            Some(digest) => {
                let pinned = format!("{}@{digest}", docker::repository(name));
                docker.pull(&pinned, login, limits).await?;
                docker.tag(&pinned, name).await?;
            }
        }
        self.take(docker, name, name, true).await
    }

    /// The same for one that is in the server's registry. There the Engine asks for it by its digest; then it gets its name.
    pub(crate) async fn pull_from(
        &self,
        docker: &impl Docker,
        source: &Source,
        name: &str,
        limits: PullLimits,
    ) -> Result<ImageInfo, DockerError> {
        docker.pull(&source.reference, Some(&source.login), limits).await?;
        // A digest is no name that an image can be given.
        let known_as = if name.contains('@') { source.reference.as_str() } else { name };
        if known_as == name {
            docker.tag(&source.reference, name).await?;
        }
        self.take(docker, known_as, name, true).await
    }

    async fn take(
        &self,
        docker: &impl Docker,
        known_as: &str,
        name: &str,
        pulled: bool,
    ) -> Result<ImageInfo, DockerError> {
        let _shared = self.gate.read().await;
        let image = docker.inspect_image(known_as).await?;
        let (changes, pulled) = {
            let mut known = self.known();
            let (now, mut changes) = known.now();
            changes.extend(known.book.used(&image.id, name, pulled, now));
            (changes, known.book.was_pulled(&image.id, name))
        };
        self.save(changes);
        Ok(ImageInfo { digest: image.digest, pulled })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for these to be durable: a use that is forgotten costs a pull at worst.
    fn save(&self, changes: Vec<ImageChange>) {
        if changes.is_empty() {
            return;
        }
        let change = |change| match change {
            ImageChange::Put { id, record } => Change::PutImage { id, record },
            ImageChange::Drop { id } => Change::DropImage { id },
        };
        self.state.write(changes.into_iter().map(change).collect());
    }

    /// Removes one image, unless it was taken since that was decided. Says whether it is gone.
    async fn remove(&self, docker: &impl Docker, removal: &Removal) -> Result<bool, DockerError> {
        let _alone = self.gate.write().await;
        if !self.known().book.may_go(removal) {
            return Ok(false);
        }
        for reference in &removal.references {
            match docker.inspect_image(reference).await {
                // Somebody has given the name to another image since.
                Ok(image) if image.id != removal.id => return Ok(false),
                Ok(_) | Err(DockerError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            match docker.remove_image(reference).await {
                Ok(()) | Err(DockerError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let change = self.known().book.removed(&removal.id);
        self.save(change.into_iter().collect());
        Ok(true)
    }
}

/// Removes what is unused, round after round, until dropped; at once, and all of it, while there is little room on the disk.
/// `instances` are all that have tasks here.
pub(crate) async fn clean<D: Docker>(
    shared: Arc<Shared<D>>,
    instances: Vec<mpsc::Sender<Question>>,
    rules: CleanupRules,
    interval: Duration,
) {
    let hurried = rules.hurried();
    loop {
        let rules = tokio::select! {
            () = sleep(interval) => &rules,
            () = shared.disk.wants_cleaning() => &hurried,
        };
        let (now, changes) = shared.images.known().now();
        shared.images.save(changes);
        if let Err(error) = round(&shared, &instances, rules, now).await {
            warn!(%error, "unused images are not looked for this time");
        }
        // While room is scarce, what can be done is done soon; then there is nothing to do but to look again.
        sleep(BETWEEN_ROUNDS.min(interval)).await;
    }
}

/// One round.
pub(super) async fn round<D: Docker>(
    shared: &Shared<D>,
    instances: &[mpsc::Sender<Question>],
    rules: &CleanupRules,
    now: Timestamp,
) -> Result<(), DockerError> {
    let Some(wanted) = wanted(instances).await else {
        // An instance that does not answer is leaving, and we with it.
        return Ok(());
    };
    let mut scene = look(&shared.docker).await?;
    scene.wanted = wanted;
    // The next task that needs it should not have to wait for it.
    scene.wanted.insert(pause::image().to_owned());
    if rules.untracked {
        remove_foreign_containers(&shared.docker, &scene, rules, now).await?;
        scene.containers = look(&shared.docker).await?.containers;
    }
    let (changes, removals) = shared.images.known().book.round(&scene, rules, now);
    shared.images.save(changes);
    for removal in removals {
        let names = removal.references.join(", ");
        match shared.images.remove(&shared.docker, &removal).await {
            Ok(true) => info!(image = removal.id, names, "removed an image that nothing uses"),
            Ok(false) => {}
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => warn!(image = removal.id, names, %error, "an unused image cannot be removed"),
        }
    }
    Ok(())
}

async fn wanted(instances: &[mpsc::Sender<Question>]) -> Option<BTreeSet<String>> {
    let mut wanted = BTreeSet::new();
    for instance in instances {
        let (question, answer) = oneshot::channel();
        instance.send(question).await.ok()?;
        wanted.extend(answer.await.ok()?);
    }
    Some(wanted)
}

async fn look(docker: &impl Docker) -> Result<Scene, DockerError> {
    let images = docker.images().await?.into_iter().map(|image| LocalImage {
        id: image.id,
        tags: image.tags,
        digests: image.digests,
        created_at: Timestamp::from_millis(image.created_at_ms),
        size: image.size,
    });
    let images = images.collect();
    let containers = docker.list(&[]).await?.into_iter().map(|container| LocalContainer {
        of_a_task: [LABEL_INSTANCE, LABEL_TASK].iter().any(|label| container.labels.contains_key(*label)),
        id: container.id,
        image_id: container.image_id,
        created_at: Timestamp::from_millis(container.created_at_ms),
        running: container.running,
    });
    Ok(Scene { images, containers: containers.collect(), wanted: BTreeSet::new() })
}

async fn remove_foreign_containers(
    docker: &impl Docker,
    scene: &Scene,
    rules: &CleanupRules,
    now: Timestamp,
) -> Result<(), DockerError> {
    let mut left = rules.containers_per_round;
    for candidate in foreign_containers(scene, rules, now).into_iter().take(MOST_INSPECTIONS) {
        if left == 0 {
            break;
        }
        let outcome = match docker.inspect(&candidate.id).await {
            Ok(container) if ended_long_ago(&container, rules, now) => docker.remove(&candidate.id).await,
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                left -= 1;
                info!(container = candidate.id, "removed a stopped container that no task owns");
            }
            Err(DockerError::NotFound(_)) => {}
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => warn!(container = candidate.id, %error, "a stopped container cannot be removed"),
        }
    }
    Ok(())
}

/// One that never ran has ended when it was made, and the list told how long ago that is.
fn ended_long_ago(container: &docker::Container, rules: &CleanupRules, now: Timestamp) -> bool {
    let ended_at = Timestamp::from_millis(container.finished_at_ms.unwrap_or(0));
    container.phase != Phase::Running && now.since(ended_at) >= rules.container_age_ms
}
