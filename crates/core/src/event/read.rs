//! Reading the stream: a piece of it behind a cursor, from a snapshot.

use std::collections::BTreeSet;

use longshore_api::{ApiError, ErrorCode};

use super::cursor::{Cursor, Subject};
use super::document::{self, DetailType};
use crate::identity::denial;
use crate::limits;
use crate::principal::{Principal, Role};
use crate::read::ReadModel;

/// What a cursor leads to is forgotten.
const CURSOR_EXPIRED: ErrorCode = ErrorCode::new("CursorExpiredException", 410);

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    #[default]
    Latest,
    /// With the oldest event that is remembered.
    Oldest,
    /// Behind a cursor.
    After(Cursor),
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of one cluster, by name or ARN.
    pub cluster: Option<String>,
    /// Those of these kinds; empty for all.
    pub kinds: BTreeSet<DetailType>,
}

impl Filter {
    /// Whether events of this kind are wanted.
    pub(super) fn wants(&self, kind: DetailType) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// A piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Events as JSON, each with the cursor behind it.
    pub events: Vec<(Cursor, String)>,
    /// Where to go on. It moves past events that are not wanted, too.
    pub next: Cursor,
    /// Whether that is the end of what has happened so far.
    pub complete: bool,
}

impl ReadModel {
    /// The cursor where a reader begins.
    ///
    /// # Errors
    /// As [`ReadModel::read_events`], so that it is told before a stream is promised.
    pub fn begin_events(&self, principal: &Principal, start: Start, filter: &Filter) -> Result<Cursor, ApiError> {
        let cursor = match start {
            Start::Latest => Cursor::end_of(self.sequence),
            Start::Oldest => Cursor::end_of(self.events.horizon().before(filter)),
            Start::After(cursor) => cursor,
        };
        self.check(principal, cursor, filter)?;
        self.wanted_cluster(filter)?;
        Ok(cursor)
    }

    /// The next events behind a cursor: a bounded number of them.
    ///
    /// # Errors
    /// `AccessDeniedException` for whoever is not the owner, `CursorExpiredException` if some of what lies behind the cursor is
    /// forgotten, `InvalidParameterException` for a cursor that is ahead of everything.
    pub fn read_events(&self, principal: &Principal, after: Cursor, filter: &Filter) -> Result<Reading, ApiError> {
        self.check(principal, after, filter)?;
        let cluster = self.wanted_cluster(filter)?;
        let wanted = |subject: Subject| {
            let name = self.cluster_names.get(&subject.cluster());
            let in_cluster = cluster.as_deref().is_none_or(|cluster| name.is_some_and(|name| **name == *cluster));
            in_cluster && filter.wants(DetailType::of(subject))
        };
        let mut reading = Reading { events: Vec::new(), next: after, complete: false };
        let mut behind = self.events.after(after).peekable();
        for _ in 0..limits::EVENTS_LOOKED_AT {
            if reading.events.len() == limits::EVENTS_PER_READING {
                break;
            }
            let Some((number, subject)) = behind.next() else {
                // All that this snapshot knows is read, whether there was an event in it or not.
                reading.next = reading.next.max(Cursor::end_of(self.sequence));
                reading.complete = true;
                break;
            };
            // What belongs to one command becomes visible at once, so that nothing comes in between later.
            reading.next = match behind.peek() {
                Some((next, _)) if *next == number => Cursor::behind(number, subject),
                _ => Cursor::end_of(number),
            };
            if wanted(subject) {
                let event = document::render(self, number, subject);
                reading.events.extend(event.map(|event| (reading.next, event)));
            }
        }
        Ok(reading)
    }

    fn check(&self, principal: &Principal, cursor: Cursor, filter: &Filter) -> Result<(), ApiError> {
        if principal.role != Role::Owner {
            return Err(denial(principal, "longshore", "ReadEvents", "*"));
        }
        let now = self.sequence;
        if cursor.number() > now {
            return Err(ApiError::invalid_parameter(format!(
                "The cursor {cursor} is ahead of everything that happened here: it is another server's, or this one's data \
                 directory was replaced. Start over: list everything, and read on from the cursor {now}."
            )));
        }
        if cursor < Cursor::end_of(self.events.horizon().before(filter)) {
            return Err(ApiError::new(
                CURSOR_EXPIRED,
                format!(
                    "Some of the events behind the cursor {cursor} are forgotten: those of tasks that stopped long ago, and of \
                     instances that changed often. Start over: take the cursor {now}, then list everything (ListTasks, \
                     ListContainerInstances), then read on from there."
                ),
            ));
        }
        Ok(())
    }

    /// The name of the cluster that is asked for.
    fn wanted_cluster(&self, filter: &Filter) -> Result<Option<String>, ApiError> {
        let Some(given) = filter.cluster.as_deref() else { return Ok(None) };
        let name = crate::names::cluster(&self.config, Some(given))?;
        let known = name.filter(|name| self.clusters.contains_key(&**name));
        let unknown = || ApiError::new(longshore_api::ecs::error::CLUSTER_NOT_FOUND_EXCEPTION, "Cluster not found.");
        known.map(|name| Some(name.to_string())).ok_or_else(unknown)
    }
}
