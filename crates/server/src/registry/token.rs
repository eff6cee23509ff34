//! The passwords of the registry: tokens that say whose they are and until when, sealed with a key of the server. Nothing is
//! kept of them; one whose access key is revoked is worth nothing from then on, since that is looked up at each use.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use longshore_api::{Sensitive, Timestamp};

/// The user name that goes with each token, as ECR has it.
const USER: &str = "AWS";
/// ECR's tokens are good for twelve hours.
const LIFETIME_MS: i64 = 12 * 60 * 60 * 1000;
/// Those of a task's execution role are for the pull that comes next.
const TASK_LIFETIME_MS: i64 = 60 * 60 * 1000;
/// What the holder of a token is.
const KEY: &str = "key";
const TASK: &str = "task";
/// So that another form can be told from this one some day.
const VERSION: &str = "1";

/// For whom a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The holder of an access key, as long as that is good.
    Key(String),
    /// Credentials of a task's execution role, which nobody can look up: they end by themselves.
    Task(String),
}

/// Makes tokens, and knows them again.
pub(crate) struct RegistryTokens(hmac::Key);

impl RegistryTokens {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// A token for this holder, and when it ends.
    pub(crate) fn issue(&self, holder: &Holder, now: Timestamp) -> (Sensitive<String>, Timestamp) {
        let (kind, id, lifetime_ms) = match holder {
            Holder::Key(id) => (KEY, id, LIFETIME_MS),
            Holder::Task(id) => (TASK, id, TASK_LIFETIME_MS),
        };
        let until = now.plus_millis(lifetime_ms);
        let claim = format!("{VERSION}:{kind}:{id}:{}", until.as_millis());
        let seal = hmac::sign(&self.0, claim.as_bytes());
        let token = format!("{}.{}", URL_SAFE_NO_PAD.encode(&claim), URL_SAFE_NO_PAD.encode(seal));
        (Sensitive::new(token), until)
    }

    /// For whom a token was made, if it is ours and still good.
    fn open(&self, token: &str, now: Timestamp) -> Option<Holder> {
        let (claim, seal) = token.split_once('.')?;
        let (claim, seal) = (URL_SAFE_NO_PAD.decode(claim).ok()?, URL_SAFE_NO_PAD.decode(seal).ok()?);
        hmac::verify(&self.0, &claim, &seal).ok()?;
        let claim = String::from_utf8(claim).ok()?;
        let [VERSION, kind, id, until] = claim.split(':').collect::<Vec<_>>()[..] else { return None };
        let until = Timestamp::from_millis(until.parse().ok()?);
        let holder = match kind {
            KEY => Holder::Key(id.to_owned()),
            TASK => Holder::Task(id.to_owned()),
            _ => return None,
        };
        (now < until).then_some(holder)
    }

    /// Who is behind an `Authorization` header.
    pub(crate) fn caller(&self, authorization: &str, now: Timestamp) -> Option<Holder> {
        let (scheme, credentials) = authorization.split_once(' ')?;
        let basic = scheme.eq_ignore_ascii_case("basic");
        let credentials = STANDARD.decode(credentials.trim()).ok().filter(|_| basic)?;
        let credentials = String::from_utf8(credentials).ok()?;
        let (user, token) = credentials.split_once(':')?;
        self.open(token, now).filter(|_| user == USER)
    }
}

/// A token as ECR hands it out: user and password in one.
pub(crate) fn with_user(token: &Sensitive<String>) -> Sensitive<String> {
    Sensitive::new(STANDARD.encode(format!("{USER}:{}", token.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_token_says_whose_it_is_until_it_ends() {
        let tokens = RegistryTokens::new([1; 32]);
        let now = Timestamp::from_millis(1_000);
        for (holder, hours) in [(Holder::Key("LSIN1".into()), 12), (Holder::Task("LSTR1".into()), 1)] {
            let (token, until) = tokens.issue(&holder, now);
            assert_eq!(until.since(now), hours * 3_600_000);
            let header = format!("Basic {}", with_user(&token).as_str());
            assert_eq!(tokens.caller(&header, now).as_ref(), Some(&holder));
            assert_eq!(tokens.caller(&header, until.plus_millis(-1)).as_ref(), Some(&holder));
            assert_eq!(tokens.caller(&header, until), None);
            assert_eq!(RegistryTokens::new([2; 32]).caller(&header, now), None);
        }
    }

    #[test]
    fn what_is_no_token_of_ours_opens_nothing() {
        let tokens = RegistryTokens::new([1; 32]);
        let now = Timestamp::from_millis(0);
        let token = tokens.issue(&Holder::Key("LSIN1".into()), now).0.into_inner();
        let (claim, seal) = token.split_once('.').unwrap();
        let other = tokens.issue(&Holder::Key("LSIN2".into()), now).0.into_inner();
        let forged = format!("{}.{seal}", other.split_once('.').unwrap().0);
        for header in [
            basic(&format!("root:{token}")),
            basic(&format!("AWS:{claim}")),
            basic(&format!("AWS:{forged}")),
            basic("AWS:"),
            basic("AWS"),
            "Basic !".to_owned(),
            format!("Bearer {token}"),
            String::new(),
        ] {
            assert_eq!(tokens.caller(&header, now), None, "{header}");
        }
    }
}
