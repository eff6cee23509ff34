//! GPUs: what containers want of them, and which ones they get.

use std::sync::Arc;

use longshore_api::ecs::types::{ResourceRequirement, ResourceType};

use crate::entity::TaskGpu;

/// What a container wants for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuDemand {
    /// Nothing.
    #[default]
    None,
    /// So many.
    Count(u32),
    /// Every one that is free on its instance, and one at least.
    All,
}

impl GpuDemand {
    /// Reads requirements that were accepted.
    pub(super) fn of(requirements: Option<&[ResourceRequirement]>) -> Self {
        let gpu = requirements.unwrap_or_default().iter().find(|one| one.r#type == ResourceType::Gpu);
        match gpu.and_then(|gpu| gpu.value.as_deref()) {
            None => Self::None,
            Some("ALL") => Self::All,
            Some(count) => count.parse().map_or(Self::None, Self::Count),
        }
    }

    /// Without how many it cannot be.
    pub fn least(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Count(count) => count,
            Self::All => 1,
        }
    }
}

/// Deals out what is free on an instance, in its order: to those that want a number, then the rest to the one that wants
/// all. There are enough: placement saw to that.
pub(crate) fn deal(demands: &[GpuDemand], free: &[Arc<str>]) -> Vec<TaskGpu> {
    let mut free = free.iter();
    let mut dealt = Vec::new();
    let mut give = |container: usize, most: usize| {
        dealt.extend(free.by_ref().take(most).map(|id| TaskGpu { container, id: id.clone() }));
    };
    for (container, demand) in demands.iter().enumerate() {
        if let GpuDemand::Count(count) = demand {
            give(container, *count as usize);
        }
    }
    if let Some(container) = demands.iter().position(|demand| *demand == GpuDemand::All) {
        give(container, usize::MAX);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(demands: &[GpuDemand], free: usize) -> Vec<(usize, String)> {
        let free: Vec<Arc<str>> = (0..free).map(|number| format!("GPU-{number}").into()).collect();
        deal(demands, &free).into_iter().map(|gpu| (gpu.container, gpu.id.to_string())).collect()
    }

    #[test]
    fn each_goes_to_one_container() {
        let of = |container: usize, id: &str| (container, id.to_owned());
        let demands = [GpuDemand::None, GpuDemand::All, GpuDemand::Count(2)];
        assert_eq!(dealt(&demands, 4), [of(2, "GPU-0"), of(2, "GPU-1"), of(1, "GPU-2"), of(1, "GPU-3")]);
        assert_eq!(dealt(&[GpuDemand::Count(1)], 4), [of(0, "GPU-0")]);
        assert_eq!(dealt(&[GpuDemand::None], 4), []);
    }
}
