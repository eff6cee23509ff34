//! What each container instance of this machine offers: one value for all, or a list with one for each.

use super::ConfigError;
use super::source::Source;

/// The least an instance can offer: what the smallest task asks for.
const LEAST_CPU: u32 = 128;
/// Docker starts no container with less.
const LEAST_MEMORY_MIB: u32 = 6;

/// A value for each instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PerInstance<T> {
    /// Nobody said.
    Unset,
    /// The same for all.
    All(T),
    /// The i-th for instance i.
    Each(Vec<T>),
}

impl<T> PerInstance<T> {
    /// The value of instance `index`.
    pub fn get(&self, index: u32) -> Option<&T> {
        match self {
            Self::Unset => None,
            Self::All(value) => Some(value),
            Self::Each(values) => values.get(index as usize),
        }
    }
}

/// Sizes and places of the instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// `LONGSHORE_CPU`: CPU units, 1024 for each CPU; unset, an equal share of the machine.
    pub cpu: PerInstance<u32>,
    /// `LONGSHORE_MEMORY`: MiB; unset, an equal share of the machine.
    pub memory_mib: PerInstance<u32>,
    /// `LONGSHORE_ZONE`: the availability zone; unset, the server's.
    pub zone: PerInstance<String>,
}

impl Sizes {
    pub(super) fn read(source: &mut Source, instances: u32) -> Result<Self, ConfigError> {
        Ok(Self {
            cpu: per_instance(source, "LONGSHORE_CPU", instances, |text| {
                at_least(text, LEAST_CPU).ok_or_else(|| format!("CPU units, 1024 for each CPU, at least {LEAST_CPU}"))
            })?,
            memory_mib: per_instance(source, "LONGSHORE_MEMORY", instances, |text| {
                at_least(text, LEAST_MEMORY_MIB).ok_or_else(|| format!("MiB of memory, at least {LEAST_MEMORY_MIB}"))
            })?,
            zone: per_instance(source, "LONGSHORE_ZONE", instances, |text| {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
                let good = text.len() <= 128 && text.chars().all(fits);
                good.then(|| text.to_owned()).ok_or_else(|| "a name of letters, digits and -_./".to_owned())
            })?,
        })
    }
}

/// One value, or as many as there are instances, separated by commas.
fn per_instance<T>(
    source: &mut Source,
    name: &'static str,
    instances: u32,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<PerInstance<T>, ConfigError> {
    source.parsed(name, PerInstance::Unset, |text| {
        let mut values = Vec::new();
        for item in text.split(',').map(str::trim) {
            let wrong = |expected: String| match text.contains(',') {
                true => format!("a list of {expected}; {item:?} is not"),
                false => expected,
            };
            if item.is_empty() {
                return Err(wrong("values".into()));
            }
            values.push(parse(item).map_err(wrong)?);
        }
        match values.len() {
            1 => Ok(values.pop().map_or(PerInstance::Unset, PerInstance::All)),
            count if count == instances as usize => Ok(PerInstance::Each(values)),
            count => Err(format!(
                "one value for all instances, or a list of {instances} (LONGSHORE_INSTANCES), not of {count}"
            )),
        }
    })
}

fn at_least(text: &str, least: u32) -> Option<u32> {
    text.parse().ok().filter(|value| (least..=i32::MAX as u32).contains(value))
}
