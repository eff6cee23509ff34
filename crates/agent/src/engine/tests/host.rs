//! What was made for tasks beside their containers, in memory. It objects to containers that lack something, and to what is
//! removed while a container needs it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::world::ModelContainer;
use crate::engine::resource::cgroup;
use crate::engine::*;

/// What there is, and how much there has been.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Names of volumes that are tasks' own.
    volumes: BTreeSet<String>,
    /// Names of volumes that outlive tasks.
    pub(super) shared: BTreeSet<String>,
    /// Cgroups, as Docker calls them.
    cgroups: BTreeSet<String>,
    /// Tasks that have a network of their own, by ARN.
    networks: BTreeSet<String>,
    pub(super) made: usize,
    pub(super) removed: usize,
}

impl Host {
    /// Makes it, or does nothing if it is there.
    pub(super) fn make(&mut self, spec: &ResourceSpec) -> Made {
        match spec {
            ResourceSpec::Volume(VolumeSpec { name, scope: VolumeScope::Task, .. }) => {
                self.made += usize::from(self.volumes.insert(name.clone()));
                Made::default()
            }
            ResourceSpec::Volume(spec) => {
                self.shared.insert(spec.name.clone());
                Made::default()
            }
            ResourceSpec::Cgroup(spec) => {
                let parent = format!("/ecs/{}", spec.task_id);
                self.made += usize::from(self.cgroups.insert(parent.clone()));
                Made { facts: cgroup::facts(parent), ..Made::default() }
            }
            ResourceSpec::EnvironmentFiles(spec) => {
                let environment = [("FROM_FILE".to_owned(), spec.container.clone())].into();
                let provided = Provided { environment, ..Provided::default() };
                Made { provided: [(spec.container.clone(), provided)].into(), ..Made::default() }
            }
            ResourceSpec::Network(spec) => {
                self.made += usize::from(self.networks.insert(spec.interface.task_arn.clone()));
                Made::default()
            }
            ResourceSpec::Secrets(_) | ResourceSpec::Login(_) => Made::default(),
        }
    }

    /// Removes it, or does nothing if it is gone. `containers` are those that exist.
    pub(super) fn remove<'a>(&mut self, spec: &ResourceSpec, containers: impl Iterator<Item = &'a ModelContainer>) {
        let containers: Vec<&ModelContainer> = containers.collect();
        let mut needed = containers.iter().flat_map(|container| needs(&container.spec));
        match spec {
            ResourceSpec::Volume(VolumeSpec { name, scope: VolumeScope::Task, .. }) => {
                assert!(!needed.any(|need| need == Need::Volume(name)), "volume {name} is removed while it is mounted");
                self.removed += usize::from(self.volumes.remove(name));
            }
            ResourceSpec::Cgroup(spec) => {
                let parent = format!("/ecs/{}", spec.task_id);
                assert!(!needed.any(|need| need == Need::Cgroup(&parent)), "{parent} is removed with containers in it");
                self.removed += usize::from(self.cgroups.remove(&parent));
            }
            ResourceSpec::Network(NetworkSpec { interface, .. }) => {
                let task = &interface.task_arn;
                let uses = |one: &&ModelContainer| one.key.task_arn == *task && one.state == RunState::Running;
                assert!(!containers.iter().any(uses), "the network of {task} is removed while containers run");
                self.removed += usize::from(self.networks.remove(task));
            }
            ResourceSpec::Volume(_)
            | ResourceSpec::EnvironmentFiles(_)
            | ResourceSpec::Secrets(_)
            | ResourceSpec::Login(_) => {}
        }
    }

    /// Docker would make up for what is missing, without its options and limits.
    pub(super) fn check(&self, spec: &ContainerSpec) {
        for need in needs(spec) {
            let there = match need {
                Need::Volume(name) => self.volumes.contains(name) || self.shared.contains(name),
                Need::Cgroup(parent) => self.cgroups.contains(parent),
            };
            assert!(there, "{} lacks its {need:?}", spec.name);
        }
    }

    /// The machine starts anew.
    pub(super) fn reboot(&mut self) {
        self.removed += self.cgroups.len() + self.networks.len();
        self.cgroups.clear();
        self.networks.clear();
    }

    /// What is there and belongs to a task.
    pub(super) fn left(&self) -> Vec<&String> {
        self.volumes.iter().chain(&self.cgroups).chain(&self.networks).collect()
    }
}

/// What a container cannot do without.
#[derive(Debug, PartialEq)]
enum Need<'a> {
    Volume(&'a str),
    Cgroup(&'a str),
}

fn needs(spec: &ContainerSpec) -> Vec<Need<'_>> {
    let host_config = &spec.body["HostConfig"];
    let binds = host_config["Binds"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let sources = binds.filter_map(|bind| bind.split(':').next()).filter(|source| !source.starts_with('/'));
    sources.map(Need::Volume).chain(host_config["CgroupParent"].as_str().map(Need::Cgroup)).collect()
}
