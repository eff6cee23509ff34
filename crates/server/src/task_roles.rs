//! Credentials of tasks' roles: made of nothing but the server's own key, the task and the time, and kept nowhere.
//!
//! The session token says whose they are and until when; the access key and its secret follow from it. Whoever shows a token
//! of ours, and signs with the secret that goes with it, speaks for that role of that task. What that opens is decided by the
//! state: nothing, once the task is over.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use longshore_agent_protocol::acs::{IamRoleCredentials, IamRoleCredentialsMessage, ServerMessage};
use longshore_api::Timestamp;
use longshore_core::TaskRole;
use longshore_core::secret::RoleHolder;
use longshore_wire::request_id::RequestId;
use longshore_wire::sigv4::{Secret, SignatureError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::access_key::ServerKey;

/// How long credentials are good. They are renewed every hour, so that a session may fail for some hours and no agent be left
/// without.
pub(crate) const LIFE_MS: i64 = 6 * 3_600_000;

/// The role that prepares a task, as messages name it.
const EXECUTION: &str = "TaskExecution";

/// What keys are derived for; other texts would make credentials that agents hold invalid, and change the ids by which they
/// know them.
const TOKEN_PURPOSE: &str = "task-role-token";
const SECRET_PURPOSE: &str = "task-role-secret";
const ACCESS_KEY_PURPOSE: &str = "task-role-access-key";
const ID_PURPOSE: &str = "task-role-credentials-id";

const ACCESS_KEY_PREFIX: &str = "LSTR";
const ACCESS_KEY_CHARS: usize = 16;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Makes and recognises credentials of tasks' roles.
pub(crate) struct TaskRoles {
    token: hmac::Key,
    secret: hmac::Key,
    access_key: hmac::Key,
    id: hmac::Key,
}

/// What a session token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    /// The task.
    #[serde(rename = "t")]
    task_arn: String,
    /// The role.
    #[serde(rename = "r")]
    role_arn: String,
    /// Until when, in milliseconds.
    #[serde(rename = "e")]
    expires_at: i64,
}

impl TaskRoles {
    /// The roles of a server with this key.
    pub(crate) fn new(server_key: &ServerKey) -> Self {
        let derive = |purpose| {
            let key = Zeroizing::new(server_key.derive(purpose));
            hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
        };
        Self {
            token: derive(TOKEN_PURPOSE),
            secret: derive(SECRET_PURPOSE),
            access_key: derive(ACCESS_KEY_PURPOSE),
            id: derive(ID_PURPOSE),
        }
    }

    /// Credentials of a task's execution role.
    pub(crate) fn issue(&self, task_arn: &str, role_arn: &str, now: Timestamp) -> IamRoleCredentials {
        let expires_at = now.plus_millis(LIFE_MS).as_millis();
        let claims = Claims { task_arn: task_arn.to_owned(), role_arn: role_arn.to_owned(), expires_at };
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&self.token, body.as_bytes()));
        IamRoleCredentials {
            credentials_id: self.credentials_id(task_arn).into(),
            role_arn: role_arn.to_owned(),
            access_key_id: self.access_key_of(&body),
            secret_access_key: self.secret_of(&body).reveal().to_owned().into(),
            session_token: format!("{body}.{tag}").into(),
            expiration: jiff::Timestamp::from_millisecond(expires_at).unwrap_or_default().to_string(),
            credential_scope: None,
        }
    }

    /// The message that renews a holder's credentials.
    pub(crate) fn renewal(&self, holder: &RoleHolder, now: Timestamp) -> ServerMessage {
        ServerMessage::IamRoleCredentials(IamRoleCredentialsMessage {
            message_id: RequestId::random().to_string(),
            task_arn: holder.task_arn.clone(),
            task_cluster_arn: holder.cluster_arn.clone(),
            role_type: EXECUTION.to_owned(),
            role_credentials: Some(self.issue(&holder.task_arn, &holder.role_arn, now)),
        })
    }

    /// Completes an order to run a task: it names a role, whose credentials nobody knew before now.
    pub(crate) fn complete(&self, message: &mut ServerMessage, now: Timestamp) {
        if let ServerMessage::Payload(payload) = message {
            for task in &mut payload.tasks {
                if let Some(role) = &mut task.execution_role_credentials {
                    *role = self.issue(&task.arn, &role.role_arn, now);
                }
            }
        }
    }

    /// Whose credentials these are, and the secret that they are good with.
    ///
    /// # Errors
    /// `UnknownKey` for a token that is not ours or belongs to another access key, `ExpiredToken` for one that has run out.
    pub(crate) fn holder(
        &self,
        token: &str,
        access_key_id: &str,
        now: Timestamp,
    ) -> Result<(Secret, TaskRole), SignatureError> {
        let (body, tag) = token.split_once('.').ok_or(SignatureError::UnknownKey)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| SignatureError::UnknownKey)?;
        hmac::verify(&self.token, body.as_bytes(), &tag).map_err(|_| SignatureError::UnknownKey)?;
        let expected = self.access_key_of(body);
        constant_time::verify_slices_are_equal(expected.as_bytes(), access_key_id.as_bytes())
            .map_err(|_| SignatureError::UnknownKey)?;
        let claims = URL_SAFE_NO_PAD.decode(body).ok().and_then(|json| serde_json::from_slice(&json).ok());
        let Claims { task_arn, role_arn, expires_at } = claims.ok_or(SignatureError::UnknownKey)?;
        if now.as_millis() >= expires_at {
            return Err(SignatureError::ExpiredToken);
        }
        Ok((self.secret_of(body), TaskRole { task_arn: task_arn.into(), role_arn: role_arn.into() }))
    }

    fn access_key_of(&self, body: &str) -> String {
        let mac = hmac::sign(&self.access_key, body.as_bytes());
        let letters = mac.as_ref().iter().take(ACCESS_KEY_CHARS);
        let letters = letters.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        ACCESS_KEY_PREFIX.chars().chain(letters).collect()
    }

    /// 40 characters of base64, as AWS's are.
    fn secret_of(&self, body: &str) -> Secret {
        Secret::new(STANDARD.encode(&hmac::sign(&self.secret, body.as_bytes()).as_ref()[..30]))
    }

    /// The same for all of a task's life: containers keep the URL that it stands in. In the form of a UUID.
    fn credentials_id(&self, task_arn: &str) -> String {
        let mac = hmac::sign(&self.id, format!("{EXECUTION}\0{task_arn}").as_bytes());
        let hex = hex::encode(&mac.as_ref()[..16]);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for TaskRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskRoles(..)")
    }
}

#[cfg(test)]
mod tests {
    use longshore_agent_protocol::acs::{PayloadMessage, Task};

    use super::*;

    const TASK: &str = "arn:aws:ecs:us-east-1:000000000000:task/default/00000000000000000000000000000001";
    const ROLE: &str = "arn:aws:iam::000000000000:role/fetch";
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn roles() -> (tempfile::TempDir, TaskRoles) {
        let dir = tempfile::tempdir().unwrap();
        let roles = TaskRoles::new(&ServerKey::load_or_create(dir.path()).unwrap());
        (dir, roles)
    }

    #[test]
    fn credentials_are_recognised_by_any_server_with_the_key_until_they_run_out() {
        let (dir, roles) = roles();
        let made = roles.issue(TASK, ROLE, NOW);
        assert_eq!(made.expiration, "2023-11-15T04:13:20Z");
        assert_eq!((made.access_key_id.len(), made.secret_access_key.0.len()), (20, 40));
        let other = TaskRoles::new(&ServerKey::load_or_create(dir.path()).unwrap());
        let holder = |at| other.holder(&made.session_token.0, &made.access_key_id, at);
        let (secret, held) = holder(NOW.plus_millis(LIFE_MS - 1)).unwrap();
        assert_eq!(secret.reveal(), made.secret_access_key.0);
        assert_eq!((&*held.task_arn, &*held.role_arn), (TASK, ROLE));
        assert_eq!(holder(NOW.plus_millis(LIFE_MS)).unwrap_err(), SignatureError::ExpiredToken);
    }

    #[test]
    fn what_is_not_exactly_ours_is_nobodys() {
        let (_dir, roles) = roles();
        let (made, next) = (roles.issue(TASK, ROLE, NOW), roles.issue(TASK, ROLE, NOW.plus_millis(1)));
        let (_other_dir, foreign) = self::roles();
        let token = &made.session_token.0;
        let (body, tag) = token.split_once('.').unwrap();
        let stretched = URL_SAFE_NO_PAD
            .encode(String::from_utf8(URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap().replace("default", "other-c"));
        for (token, key) in [
            (token.as_str(), next.access_key_id.as_str()),
            (&foreign.issue(TASK, ROLE, NOW).session_token.0, &made.access_key_id),
            (&format!("{stretched}.{tag}"), &made.access_key_id),
            (body, &made.access_key_id),
            ("", ""),
        ] {
            assert_eq!(roles.holder(token, key, NOW).unwrap_err(), SignatureError::UnknownKey, "{token}");
        }
    }

    #[test]
    fn an_order_is_completed_and_renewed_under_the_same_id() {
        let (_dir, roles) = roles();
        let blank = IamRoleCredentials { role_arn: ROLE.to_owned(), ..IamRoleCredentials::default() };
        let task = Task { arn: TASK.to_owned(), execution_role_credentials: Some(blank), ..Task::default() };
        let tasks = vec![task, Task::default()];
        let mut message = ServerMessage::Payload(PayloadMessage { tasks, ..PayloadMessage::default() });
        roles.complete(&mut message, NOW);
        let ServerMessage::Payload(PayloadMessage { tasks, .. }) = message else { panic!() };
        let sent = tasks[0].execution_role_credentials.clone().unwrap();
        assert!(roles.holder(&sent.session_token.0, &sent.access_key_id, NOW).is_ok());
        assert_eq!(tasks[1].execution_role_credentials, None);
        let holder = RoleHolder { task_arn: TASK.to_owned(), cluster_arn: "c".to_owned(), role_arn: ROLE.to_owned() };
        let ServerMessage::IamRoleCredentials(renewal) = roles.renewal(&holder, NOW.plus_millis(1)) else { panic!() };
        let renewed = renewal.role_credentials.unwrap();
        assert_eq!(renewed.credentials_id, sent.credentials_id);
        assert_ne!(renewed.session_token, sent.session_token);
        assert!(!format!("{sent:?}").contains(&sent.secret_access_key.0));
    }
}
