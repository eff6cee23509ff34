//! Identities of machines: JoinContainerInstance, ListInstanceIdentities, RevokeInstanceIdentity, and what a key's binding
//! means for registration.

use std::ops::Bound;
use std::sync::Arc;

use longshore_api::ecs::error;
use longshore_api::error::{ACCESS_DENIED_EXCEPTION, UNRECOGNIZED_CLIENT_EXCEPTION};
use longshore_api::{ApiError, Timestamp, admin};

use super::{Answer, new_id};
use crate::cell::{CloseReason, Turn};
use crate::entity::{Entity, Identity, Instance, JoinKey, JoinToken};
use crate::ids::{ClusterId, InstanceId, InstanceKey};
use crate::instance::{InstanceStatus, describe, lost, session};
use crate::limits;
use crate::names;
use crate::network::Host;
use crate::placement::pool::host_of;
use crate::principal::{Principal, Role};
use crate::read::{Page, ReadModel, bad_token, page};

/// Begins the id of every machine's access key.
const PREFIX: &str = "LSIN";

/// JoinContainerInstance, signed with a join token. Repeated with the same client token it is the same join.
pub(super) fn join(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &admin::JoinContainerInstanceRequest,
) -> Result<Answer, ApiError> {
    let token = turn.tables.view().join_tokens.get(&principal.access_key_id).cloned().ok_or_else(unknown_key)?;
    let join = JoinKey { token: token.id.clone(), client_token: request.client_token.as_str().into() };
    let instances = request.instances.and_then(|instances| u32::try_from(instances).ok()).unwrap_or(1);
    let known = turn.tables.joined(&join).cloned();
    check_usable(&token, known.is_some(), turn.now)?;
    let identity = match known {
        Some(known) => same_join(known, instances)?,
        None => add(turn, &token, join, instances)?,
    };
    let (access_key_id, cluster) = (identity.access_key_id.clone(), identity.cluster.clone());
    Ok(Answer::Joined { access_key_id, cluster, scope: turn.config.scope.clone() })
}

/// Refuses a token that lets nobody in any more. A join that it let in already costs it no further use.
fn check_usable(token: &JoinToken, repeated: bool, now: Timestamp) -> Result<(), ApiError> {
    let why = if token.revoked_at.is_some() {
        "was revoked"
    } else if token.expires_at <= now {
        "has expired"
    } else if token.used >= token.uses && !repeated {
        "has been used as often as it may be"
    } else {
        return Ok(());
    };
    let message = format!("The join token {} {why}: make another with `longshore token create`.", token.id);
    Err(ApiError::new(ACCESS_DENIED_EXCEPTION, message))
}

fn same_join(known: Arc<Identity>, instances: u32) -> Result<Arc<Identity>, ApiError> {
    if known.revoked_at.is_some() {
        let message = format!("The identity {} of this join was revoked: join anew.", known.access_key_id);
        return Err(ApiError::new(ACCESS_DENIED_EXCEPTION, message));
    }
    if known.instances != instances {
        let message = format!("This clientToken joined with instances {} before, not {instances}.", known.instances);
        return Err(ApiError::new(error::CONFLICT_EXCEPTION, message));
    }
    Ok(known)
}

fn add(turn: &mut Turn<'_>, token: &JoinToken, join: JoinKey, instances: u32) -> Result<Arc<Identity>, ApiError> {
    // The token leads to a cluster that may be gone by now.
    let cluster = turn.tables.view().cluster(Some(&token.cluster))?.name.clone();
    if turn.tables.view().identities.len() >= limits::IDENTITIES {
        let message = format!("{} machines have joined: revoke those that are gone.", limits::IDENTITIES);
        return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
    }
    let used = Arc::new(JoinToken { used: token.used + 1, ..token.clone() });
    turn.tables.put(Entity::JoinToken(used));
    let identity = Arc::new(Identity {
        access_key_id: new_id(PREFIX, &mut turn.entropy),
        cluster,
        join,
        instances,
        created_at: turn.now,
        revoked_at: None,
    });
    turn.tables.put(Entity::Identity(identity.clone()));
    Ok(identity)
}

/// RevokeInstanceIdentity: the key opens nothing from now on, and what it has open is closed. Its instances stay without a
/// session and go the way of lost ones.
pub(super) fn revoke(turn: &mut Turn<'_>, request: &admin::RevokeInstanceIdentityRequest) -> Result<Answer, ApiError> {
    let known = named(turn.tables.view(), request)?;
    let identity = match known.revoked_at {
        Some(_) => known,
        None => {
            let revoked = Arc::new(Identity { revoked_at: Some(turn.now), ..Identity::clone(&known) });
            turn.tables.put(Entity::Identity(revoked.clone()));
            close_sessions(turn, &revoked.access_key_id);
            revoked
        }
    };
    Ok(admin::Response::from(admin::RevokeInstanceIdentityResponse { identity: document(&identity) }).into())
}

/// The identity that a request means, by its key or by an instance that it registered.
fn named(view: &ReadModel, request: &admin::RevokeInstanceIdentityRequest) -> Result<Arc<Identity>, ApiError> {
    let missing = |what: &str, name: &str| {
        let message = format!("There is no {what} {name}; `longshore instance list` shows all.");
        ApiError::new(error::RESOURCE_NOT_FOUND_EXCEPTION, message)
    };
    let key = match (request.access_key_id.as_deref(), request.container_instance.as_deref()) {
        (Some(key), _) => return view.identities.get(key).cloned().ok_or_else(|| missing("identity", key)),
        (None, Some(arn)) => {
            let instance = view.instance_of_arn(arn).ok_or_else(|| missing("container instance", arn))?;
            instance.principal.clone()
        }
        (None, None) => return Err(ApiError::invalid_parameter("Name the accessKeyId or the containerInstance.")),
    };
    view.identities.get(&key).cloned().ok_or_else(|| {
        ApiError::invalid_parameter(format!(
            "The container instance was registered with the access key {key}, which no machine got by joining and which \
             cannot be revoked: deregister the instance."
        ))
    })
}

fn close_sessions(turn: &mut Turn<'_>, access_key_id: &str) {
    let instances: Vec<InstanceKey> = turn.tables.view().instances_of(access_key_id).map(|known| known.key).collect();
    for instance in instances {
        session::close(turn, instance, CloseReason::Revoked);
    }
}

/// ReleaseMassLossBrake.
pub(super) fn release_brake(
    turn: &mut Turn<'_>,
    request: &admin::ReleaseMassLossBrakeRequest,
) -> Result<Answer, ApiError> {
    let cluster = turn.tables.view().cluster(Some(&request.cluster))?.clone();
    let evicted = i32::try_from(lost::evict_all(turn, cluster.id)).unwrap_or(i32::MAX);
    let response = admin::ReleaseMassLossBrakeResponse { cluster: cluster.name.to_string(), evicted };
    Ok(admin::Response::from(response).into())
}

/// Refuses a further container instance to a key that has as many as it may have.
///
/// # Errors
/// `AccessDeniedException` that names one to deregister.
pub(crate) fn check_room(turn: &Turn<'_>, principal: &Principal) -> Result<(), ApiError> {
    if principal.role != Role::Instance {
        return Ok(());
    }
    let view = turn.tables.view();
    let identity = view.identity_of(principal)?;
    let registered = view.instances_of(&identity.access_key_id);
    let registered: Vec<_> = registered.filter(|instance| instance.status != InstanceStatus::Inactive).collect();
    if registered.len() < identity.instances as usize {
        return Ok(());
    }
    // The one that is gone, as far as can be seen: nobody should give back what runs.
    let gone = registered.iter().find(|instance| turn.sessions.get(instance.key).is_none());
    let Some(named) = gone.or(registered.first()) else { return Ok(()) };
    let arn = view.config.instance_arn(&identity.cluster, named.key.id);
    let (key, most) = (&identity.access_key_id, identity.instances);
    Err(ApiError::new(
        ACCESS_DENIED_EXCEPTION,
        format!(
            "The access key {key} may have {most} container instances and has them: deregister {arn}, if it is gone, with \
             `aws ecs deregister-container-instance --force`, or let this machine join anew."
        ),
    ))
}

/// Refuses a host to a key while another one has it: whose instances name a host share its ports and its addresses, and what is
/// sent to its tasks goes where they say. The key that came first has it while an instance of it is in service and not given up,
/// unless it is revoked. The owner's key may do everything.
///
/// # Errors
/// `AccessDeniedException` that says what to do.
pub(crate) fn check_host(
    turn: &Turn<'_>,
    principal: &Principal,
    known: Option<&Instance>,
    host: Option<&Arc<str>>,
) -> Result<(), ApiError> {
    let (Some(host), Role::Instance) = (host, principal.role) else { return Ok(()) };
    if known.is_some_and(|known| host_of(known) == *host) {
        return Ok(());
    }
    let view = turn.tables.view();
    let holder = turn.tables.addresses().host(host).and_then(Host::holder);
    let Some(holder) = holder.and_then(|key| view.instances.get(&key)) else { return Ok(()) };
    let revoked = view.identities.get(&holder.principal).is_some_and(|identity| identity.revoked_at.is_some());
    if revoked || holder.principal == principal.access_key_id {
        return Ok(());
    }
    let cluster = view.cluster_names.get(&holder.key.cluster).map_or("", |name| name);
    let arn = view.config.instance_arn(cluster, holder.key.id);
    Err(ApiError::new(
        ACCESS_DENIED_EXCEPTION,
        format!(
            "The host id {host} belongs to another machine, which registered {arn}. If this is the same machine and has joined \
             anew, deregister that with `aws ecs deregister-container-instance --force`; else give this one an id of its own: \
             a /etc/machine-id that is no copy, or LONGSHORE_HOST_ID."
        ),
    ))
}

/// An access key that was never made, or is dead.
fn unknown_key() -> ApiError {
    ApiError::new(UNRECOGNIZED_CLIENT_EXCEPTION, "The security token included in the request is invalid.")
}

impl ReadModel {
    /// What kind of key this is; `None` for one that was never made, is forgotten or is a machine's that was revoked. The
    /// owner's is not known here. A join token that ended is still known, so that its holder can be told why it is refused.
    pub fn role_of(&self, access_key_id: &str) -> Option<Role> {
        match self.identities.get(access_key_id) {
            Some(identity) => identity.revoked_at.is_none().then_some(Role::Instance),
            None => self.join_tokens.contains_key(access_key_id).then_some(Role::JoinToken),
        }
    }

    /// Whether a key that was verified still opens anything: only a machine's can die.
    pub(crate) fn is_alive(&self, principal: &Principal) -> bool {
        principal.role != Role::Instance || self.identity_of(principal).is_ok()
    }

    /// The living identity behind a machine's key.
    ///
    /// # Errors
    /// `UnrecognizedClientException`, as for any key that is not known.
    pub(crate) fn identity_of(&self, principal: &Principal) -> Result<&Arc<Identity>, ApiError> {
        let identity = self.identities.get(&principal.access_key_id);
        identity.filter(|identity| identity.revoked_at.is_none()).ok_or_else(unknown_key)
    }

    /// The container instances that a key registered, in the order of registration.
    pub(crate) fn instances_of(&self, access_key_id: &str) -> impl Iterator<Item = &Arc<Instance>> {
        let key: Arc<str> = access_key_id.into();
        let from = (key.clone(), InstanceKey { cluster: ClusterId(0), id: InstanceId(0) });
        let to = (key, InstanceKey { cluster: ClusterId(u64::MAX), id: InstanceId(u128::MAX) });
        self.instances_by_key.range(from..=to).filter_map(|(_, instance)| self.instances.get(instance))
    }

    /// The container instance of a full ARN.
    fn instance_of_arn(&self, arn: &str) -> Option<&Arc<Instance>> {
        let (cluster, id) = names::instance_arn_parts(&self.config, arn)?;
        let cluster = self.clusters.get(&*cluster)?.id;
        self.instances.get(&InstanceKey { cluster, id })
    }
}

/// ListInstanceIdentities: every container instance, then every identity that has none.
pub(super) fn list(
    view: &ReadModel,
    request: &admin::ListInstanceIdentitiesRequest,
) -> Result<admin::Response, ApiError> {
    let cluster = request.cluster.as_deref().map(|given| view.cluster(Some(given))).transpose()?;
    let after = After::parse(request.next_token.as_deref())?;
    let instances = after.instances().into_iter().flat_map(|behind| {
        let behind = view.instances.range((behind, Bound::Unbounded)).map(|(_, instance)| instance);
        behind.filter(|instance| cluster.is_none_or(|cluster| cluster.id == instance.key.cluster)).map(Row::Instance)
    });
    let identities = view.identities.range::<_, str>((after.identities(), Bound::Unbounded)).map(|(_, known)| known);
    let idle = identities
        .filter(|identity| cluster.is_none_or(|cluster| cluster.name == identity.cluster))
        .filter(|identity| view.instances_of(&identity.access_key_id).next().is_none())
        .map(Row::Identity);
    let Page { items, next } = page(instances.chain(idle), request.max_results, Row::cursor);
    let instance_identities = items.into_iter().filter_map(|row| row.document(view)).collect();
    Ok(admin::ListInstanceIdentitiesResponse { instance_identities, next_token: next }.into())
}

/// A row of the listing.
enum Row<'a> {
    Instance(&'a Arc<Instance>),
    Identity(&'a Arc<Identity>),
}

impl Row<'_> {
    fn cursor(&self) -> String {
        match self {
            Self::Instance(instance) => format!("i{}/{}", instance.key.cluster.0, instance.key.id),
            Self::Identity(identity) => format!("a{}", identity.access_key_id),
        }
    }

    fn document(&self, view: &ReadModel) -> Option<admin::InstanceIdentity> {
        Some(match self {
            Self::Instance(instance) => {
                let cluster = view.cluster_names.get(&instance.key.cluster).and_then(|name| view.clusters.get(name))?;
                admin::InstanceIdentity {
                    access_key_id: instance.principal.to_string(),
                    cluster: cluster.name.to_string(),
                    identity: view.identities.get(&instance.principal).map(|identity| document(identity)),
                    container_instance: Some(describe::state(view, cluster, instance)),
                }
            }
            Self::Identity(identity) => admin::InstanceIdentity {
                access_key_id: identity.access_key_id.to_string(),
                cluster: identity.cluster.to_string(),
                identity: Some(document(identity)),
                container_instance: None,
            },
        })
    }
}

/// Where a page begins.
enum After {
    Nothing,
    Instance(InstanceKey),
    Identity(String),
}

impl After {
    fn parse(token: Option<&str>) -> Result<Self, ApiError> {
        let Some(token) = token else { return Ok(Self::Nothing) };
        if let Some(key) = token.strip_prefix('a') {
            return Ok(Self::Identity(key.to_owned()));
        }
        let (cluster, id) = token.strip_prefix('i').and_then(|key| key.split_once('/')).ok_or_else(bad_token)?;
        let cluster = ClusterId(cluster.parse().map_err(|_| bad_token())?);
        Ok(Self::Instance(InstanceKey { cluster, id: id.parse().map_err(|_| bad_token())? }))
    }

    /// Behind which instance to go on; nothing when all of them were listed.
    fn instances(&self) -> Option<Bound<InstanceKey>> {
        match self {
            Self::Nothing => Some(Bound::Unbounded),
            Self::Instance(key) => Some(Bound::Excluded(*key)),
            Self::Identity(_) => None,
        }
    }

    fn identities(&self) -> Bound<&str> {
        match self {
            Self::Nothing | Self::Instance(_) => Bound::Unbounded,
            Self::Identity(key) => Bound::Excluded(key),
        }
    }
}

fn document(identity: &Identity) -> admin::Identity {
    admin::Identity {
        access_key_id: identity.access_key_id.to_string(),
        cluster: identity.cluster.to_string(),
        token_id: identity.join.token.to_string(),
        instances: i32::try_from(identity.instances).unwrap_or(i32::MAX),
        created_at: identity.created_at,
        revoked_at: identity.revoked_at,
    }
}
