//! Watches Docker for all instances of the process: its events, its coming and going.
//!
//! After every (re)connection the watcher subscribes to events first and lists all containers then, so nothing falls between
//! the two; what happened while nobody listened is in the list. Every few minutes it lists them all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::{Shared, convert};
use crate::backoff::{Backoff, jittered};
use crate::engine::docker::{
    ContainerEvent, Docker, DockerError, EventKind, LABEL_CONTAINER, LABEL_INSTANCE, LABEL_TASK, Listed,
};
use crate::engine::{ContainerKey, DockerLife, FoundContainer, Health, Input};
use crate::session::tcs::{RuntimeHealth, RuntimeStatus};
use longshore_client::now;

/// Docker restarts in a second or two; an Engine that stays away is asked every few seconds.
pub(crate) const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 2.0, 0.2);
/// A call found Docker gone although events still flow: look again after this long, once for all calls that did.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// The Engine drops events of a listener that falls behind, and a peer that vanished without a word sends none: what was
/// missed is found out at the latest after this long (and up to a fifth more).
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(300);

/// A container instance, by its ARN, that wants to know.
pub(crate) type Listener = (String, mpsc::UnboundedSender<Input>);

/// All of them, as they join.
struct Listeners {
    known: BTreeMap<String, mpsc::UnboundedSender<Input>>,
    joining: mpsc::UnboundedReceiver<Listener>,
}

impl Listeners {
    /// Waits for some to join, and says who.
    async fn joined(&mut self) -> BTreeSet<String> {
        let mut joined = Vec::new();
        if self.joining.recv_many(&mut joined, usize::MAX).await == 0 {
            // Nobody is left who could join.
            std::future::pending::<()>().await;
        }
        let names = joined.iter().map(|(instance, _)| instance.clone()).collect();
        self.known.extend(joined);
        names
    }
}

/// Watches until dropped, for whoever joins. One who does is told at once what there is.
pub(crate) async fn run<D: Docker>(
    shared: Arc<Shared<D>>,
    joining: mpsc::UnboundedReceiver<Listener>,
    health: watch::Sender<RuntimeHealth>,
) {
    let mut listeners = Listeners { known: BTreeMap::new(), joining };
    let mut backoff = RECONNECT;
    loop {
        let Err(error) = listen(&shared, &mut listeners, &health, &mut backoff).await;
        set(&health, RuntimeStatus::Impaired, Some(error.to_string()));
        let pause = backoff.next();
        warn!(%error, ?pause, "lost the Docker Engine; containers run on, looking for it again");
        sleep(pause).await;
    }
}

async fn listen<D: Docker>(
    shared: &Shared<D>,
    listeners: &mut Listeners,
    health: &watch::Sender<RuntimeHealth>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, DockerError> {
    let version = shared.docker.version().await?;
    let mut events = shared.docker.events().await?;
    announce(shared, listeners, None).await?;
    backoff.reset();
    set(health, RuntimeStatus::Ok, None);
    info!(version = version.version, api = %version.api, "watching the Docker Engine");
    let next_look = || Instant::now() + jittered(shared.look_every, shared.look_every / 5);
    let mut look_at = next_look();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => forward(listeners, event),
                None => return Err(DockerError::Unavailable {
                    asked: true,
                    endpoint: "its event stream".into(),
                    cause: "the stream ended".into(),
                }),
            },
            joined = listeners.joined() => announce(shared, listeners, Some(&joined)).await?,
            () = shared.docker_lost.notified() => {
                sleep(SECOND_LOOK).await;
                announce(shared, listeners, None).await?;
            }
            () = sleep_until(look_at) => {
                look_at = next_look();
                announce(shared, listeners, None).await?;
            }
        }
    }
}

fn set(health: &watch::Sender<RuntimeHealth>, status: RuntimeStatus, reason: Option<String>) {
    health.send_if_modified(|known| {
        let changed = known.status != status;
        if changed {
            *known = RuntimeHealth { status, since: now(), reason };
        }
        changed
    });
}

/// Tells every instance, or some only, that Docker is there, and which containers of its are.
async fn announce<D: Docker>(
    shared: &Shared<D>,
    listeners: &Listeners,
    only: Option<&BTreeSet<String>>,
) -> Result<(), DockerError> {
    let mut by_instance: BTreeMap<String, Vec<FoundContainer>> = BTreeMap::new();
    for listed in shared.docker.list(&[LABEL_INSTANCE]).await? {
        if let Some((instance, found)) = found(listed) {
            by_instance.entry(instance).or_default().push(found);
        }
    }
    let docker = shared.docker.life().await?.map(DockerLife);
    let told = listeners.known.iter().filter(|(instance, _)| only.is_none_or(|only| only.contains(*instance)));
    for (instance, listener) in told {
        let found = by_instance.remove(instance).unwrap_or_default();
        // A listener that is gone is leaving; so are we.
        let _ = listener.send(Input::DockerReady { docker: docker.clone(), found });
    }
    Ok(())
}

pub(super) fn found(mut listed: Listed) -> Option<(String, FoundContainer)> {
    let instance = listed.labels.remove(LABEL_INSTANCE)?;
    let container =
        ContainerKey { task_arn: listed.labels.remove(LABEL_TASK)?, name: listed.labels.remove(LABEL_CONTAINER)? };
    let found = FoundContainer { container, docker_id: listed.id, running: listed.running };
    Some((instance, found))
}

fn forward(listeners: &Listeners, event: ContainerEvent) {
    let Some(listener) = listeners.known.get(&event.instance_arn) else {
        return;
    };
    let container = ContainerKey { task_arn: event.task_arn, name: event.container_name };
    let input = match event.kind {
        EventKind::Died { exit_code } => Input::Died { container, exit_code },
        EventKind::Health(status) => {
            Input::HealthChanged { container, health: Health { status: convert::health_status(&status), output: None } }
        }
    };
    let _ = listener.send(input);
}
