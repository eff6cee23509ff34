//! Attributes of container instances: PutAttributes, DeleteAttributes, ListAttributes.
//!
//! An instance has those that its agent sent when it registered and those that were put. Which of them are custom is
//! decided by the name alone. What is put outlives the agent: one that comes back sends no custom attributes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types::TargetType;
use longshore_api::ecs::{Response, error, types};

use crate::cell::Turn;
use crate::entity::{Cluster, Entity, Instance};
use crate::ids::{InstanceId, InstanceKey};
use crate::instance::InstanceStatus;
use crate::limits;
use crate::names;
use crate::read::{Page, ReadModel, bad_token, page};

/// Whether ECS takes this as an attribute's name.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./\\".contains(&b);
    (1..=limits::ATTRIBUTE).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether ECS takes this as an attribute's value.
pub(crate) fn is_value(value: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.@/\\: ".contains(&b);
    let length = (1..=limits::ATTRIBUTE).contains(&value.len());
    length && value.bytes().all(allowed) && !value.starts_with(' ') && !value.ends_with(' ')
}

/// Whether the name is ECS's own: such attributes say what the agent and its machine can do.
pub(crate) fn is_built_in(name: &str) -> bool {
    name.starts_with("ecs.") || name.starts_with("com.amazonaws.ecs.")
}

/// Whether a caller may choose the name. Those of Longshore say which machine an instance is on: its ports depend on it.
fn is_custom(name: &str) -> bool {
    !is_built_in(name) && !name.starts_with("longshore.")
}

/// PutAttributes: all of them, or none when one is refused.
pub(crate) fn put(turn: &mut Turn<'_>, request: &types::PutAttributesRequest) -> Result<Response, ApiError> {
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    let mut instances = Targets::default();
    let mut answered = Vec::new();
    for (at, attribute) in checked(&request.attributes)? {
        let value = attribute.value.as_deref();
        if let Some(value) = value.filter(|value| !is_value(value)) {
            return Err(ApiError::invalid_parameter(format!(
                "The value of attribute {at}, {value:?}, is not valid: 1 to 128 letters, digits, spaces (neither first nor \
                 last), and any of - _ . @ / \\ : are allowed.",
            )));
        }
        let instance = instances.get(turn.tables.view(), &cluster, attribute)?;
        instance.attributes.insert(attribute.name.as_str().into(), value.map(Arc::from));
        answered.push(document(turn.tables.view(), &cluster, instance.key.id, &attribute.name, value));
    }
    instances.check_room(turn.tables.view())?;
    instances.write(turn);
    Ok(types::PutAttributesResponse { attributes: Some(answered) }.into())
}

/// DeleteAttributes: those that are there. What is not there needs no deletion, and is not answered.
pub(crate) fn delete(turn: &mut Turn<'_>, request: &types::DeleteAttributesRequest) -> Result<Response, ApiError> {
    let cluster = turn.tables.view().cluster(request.cluster.as_deref())?.clone();
    let mut instances = Targets::default();
    let mut answered = Vec::new();
    for (at, attribute) in checked(&request.attributes)? {
        if attribute.value.is_some() {
            return Err(ApiError::invalid_parameter(format!(
                "Attribute {at} is given with a value: to delete it, give its name and its target alone.",
            )));
        }
        let instance = instances.get(turn.tables.view(), &cluster, attribute)?;
        if let Some(value) = instance.attributes.remove(attribute.name.as_str()) {
            let id = instance.key.id;
            answered.push(document(turn.tables.view(), &cluster, id, &attribute.name, value.as_deref()));
        }
    }
    instances.write(turn);
    Ok(types::DeleteAttributesResponse { attributes: Some(answered) }.into())
}

/// The attributes of a request (at most ten, by their shape) with their places, each with a name that a caller may choose,
/// none twice for one target.
fn checked(attributes: &[types::Attribute]) -> Result<impl Iterator<Item = (usize, &types::Attribute)>, ApiError> {
    let refuse = |message: String| Err(ApiError::invalid_parameter(message));
    for (at, attribute) in attributes.iter().enumerate() {
        let name = &attribute.name;
        if !is_name(name) {
            return refuse(format!(
                "The name of attribute {at}, {name:?}, is not valid: 1 to 128 letters, digits, and any of - _ . / \\ are \
                 allowed.",
            ));
        }
        if !is_custom(name) {
            return refuse(format!("The attribute {name} is built in: it can be neither changed nor deleted."));
        }
        let same = |other: &&types::Attribute| (&other.name, &other.target_id) == (name, &attribute.target_id);
        if attributes[..at].iter().any(|other| same(&other)) {
            return refuse(format!("The attribute {name} is given twice for one target."));
        }
    }
    Ok(attributes.iter().enumerate())
}

/// The instances that a request is about, as it leaves them.
#[derive(Default)]
struct Targets {
    instances: BTreeMap<InstanceKey, Instance>,
}

impl Targets {
    fn get(
        &mut self,
        view: &ReadModel,
        cluster: &Cluster,
        attribute: &types::Attribute,
    ) -> Result<&mut Instance, ApiError> {
        let known = target(view, cluster, attribute)?;
        Ok(self.instances.entry(known.key).or_insert_with(|| Instance::clone(known)))
    }

    /// Whether each instance may have what it is to have. Too many custom attributes from its agent are its agent's affair: as
    /// long as there are not more of them than before, they can be changed.
    fn check_room(&self, view: &ReadModel) -> Result<(), ApiError> {
        let custom = |instance: &Instance| instance.attributes.keys().filter(|name| is_custom(name)).count();
        for (key, instance) in &self.instances {
            let before = view.instances.get(key).map_or(0, |known| custom(known));
            let most = limits::CUSTOM_ATTRIBUTES.max(before);
            if custom(instance) > most {
                let (id, most) = (key.id, limits::CUSTOM_ATTRIBUTES);
                return Err(ApiError::new(
                    error::ATTRIBUTE_LIMIT_EXCEEDED_EXCEPTION,
                    format!(
                        "The container instance {id} would have more than {most} custom attributes. Delete some with \
                         DeleteAttributes first.",
                    ),
                ));
            }
        }
        Ok(())
    }

    fn write(self, turn: &mut Turn<'_>) {
        for (key, mut instance) in self.instances {
            if turn.tables.view().instances.get(&key).is_some_and(|known| known.attributes != instance.attributes) {
                instance.version += 1;
                turn.tables.put(Entity::Instance(Arc::new(instance)));
            }
        }
    }
}

/// The instance that an attribute is for: in service, in this cluster.
fn target<'a>(
    view: &'a ReadModel,
    cluster: &Cluster,
    attribute: &types::Attribute,
) -> Result<&'a Arc<Instance>, ApiError> {
    let Some(given) = attribute.target_id.as_deref().filter(|given| !given.is_empty()) else {
        let message = format!("The attribute {} has no targetId: name a container instance.", attribute.name);
        return Err(ApiError::invalid_parameter(message));
    };
    if attribute.target_type.is_none() && !given.starts_with("arn:") {
        return Err(ApiError::invalid_parameter(format!(
            "The attribute {} has no targetType: it must be given with a targetId that is not a full ARN.",
            attribute.name
        )));
    }
    let id = names::instance(&view.config, cluster, given)?;
    let known = id.and_then(|id| view.instances.get(&InstanceKey { cluster: cluster.id, id }));
    known.filter(|known| known.status != InstanceStatus::Inactive).ok_or_else(|| {
        ApiError::new(
            error::TARGET_NOT_FOUND_EXCEPTION,
            format!("The target {given} was not found. ListContainerInstances tells which there are."),
        )
    })
}

/// ListAttributes: of one instance after the other in the order of their registration, each in the order of the names.
pub(crate) fn list(view: &ReadModel, request: &types::ListAttributesRequest) -> Result<Response, ApiError> {
    let TargetType::ContainerInstance = request.target_type;
    let given = |member: &'_ Option<String>| member.as_deref().filter(|given| !given.is_empty()).map(str::to_owned);
    let (wanted_name, wanted_value) = (given(&request.attribute_name), given(&request.attribute_value));
    if wanted_value.is_some() && wanted_name.is_none() {
        let message = "attributeValue is given without attributeName: name the attribute too.";
        return Err(ApiError::invalid_parameter(message));
    }
    let cluster = view.cluster(request.cluster.as_deref())?;
    let (first, after) = match request.next_token.as_deref() {
        None => (InstanceId(0), None),
        Some(token) => {
            let (id, name) = token.split_once('/').ok_or_else(bad_token)?;
            (id.parse().map_err(|_| bad_token())?, Some(name))
        }
    };
    let from = InstanceKey { cluster: cluster.id, id: first };
    let to = InstanceKey { cluster: cluster.id, id: InstanceId(u128::MAX) };
    let in_service = view.instances.range(from..=to).filter(|(_, known)| known.status != InstanceStatus::Inactive);
    let listed = in_service.flat_map(|(key, instance)| {
        let after = after.filter(|_| key.id == first);
        // An instance has dozens of attributes: the one that is wanted is looked up among them.
        let range = match wanted_name.as_deref() {
            None => (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded),
            Some(wanted) if after.is_some_and(|after| wanted <= after) => {
                (Bound::Excluded(wanted), Bound::Included(wanted))
            }
            Some(wanted) => (Bound::Included(wanted), Bound::Included(wanted)),
        };
        instance.attributes.range::<str, _>(range).map(|(name, value)| (key.id, name, value))
    });
    let matching =
        listed.filter(|(_, _, value)| wanted_value.as_deref().is_none_or(|wanted| value.as_deref() == Some(wanted)));
    let Page { items, next } = page(matching, request.max_results, |(id, name, _)| format!("{id}/{name}"));
    let attributes = items.into_iter().map(|(id, name, value)| document(view, cluster, id, name, value.as_deref()));
    Ok(types::ListAttributesResponse { attributes: Some(attributes.collect()), next_token: next }.into())
}

/// An attribute as these operations answer it: with its target's full ARN, however the target was named.
fn document(view: &ReadModel, cluster: &Cluster, id: InstanceId, name: &str, value: Option<&str>) -> types::Attribute {
    types::Attribute {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        target_type: None,
        target_id: Some(view.config.instance_arn(&cluster.name, id)),
    }
}

#[cfg(test)]
mod tests;
