//! Signatures, on the server's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use http::header::{DATE, HeaderMap, HeaderName, HeaderValue};
use longshore_api::Timestamp;
use longshore_wire::sigv4;
use tracing::warn;

/// The service that is signed for unless another one is named: administration comes in by the same door.
const SERVICE: &str = "ecs";
/// Clocks that differ by less than this are the network's delay, not skew; servers accept five minutes.
const SKEW_WORTH_CORRECTING_MS: i64 = 60_000;

/// Signs with one access key.
#[derive(Debug)]
pub struct Signer {
    credentials: sigv4::Credentials,
    region: String,
    /// How far the server's clock is ahead of ours, once it told us that this matters.
    skew_ms: AtomicI64,
}

impl Signer {
    /// With this key, for this region.
    pub fn new(credentials: sigv4::Credentials, region: impl Into<String>) -> Self {
        Self { credentials, region: region.into(), skew_ms: AtomicI64::new(0) }
    }

    /// The headers that sign a request; all of `headers` are covered.
    ///
    /// # Errors
    /// When a header cannot be signed; the text says which.
    pub fn sign(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        self.sign_for(SERVICE, method, target, headers, body)
    }

    /// The same for a service of AWS's other than ECS.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    pub fn sign_for(
        &self,
        service: &str,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let at = now().plus_millis(self.skew_ms.load(Ordering::Relaxed));
        sigv4::sign(&self.credentials, &self.region, service, at, method, target, headers, body)
            .map_err(|error| error.to_string())
    }

    /// After a refusal: takes over the server's clock if ours is far from it. Says whether that changed anything, so that
    /// the same request is worth another attempt.
    pub fn learn_skew(&self, code: &str, headers: &HeaderMap) -> bool {
        let about_time = code.contains("Signature") || code.contains("Skew") || code.contains("Expired");
        let Some(theirs) = about_time.then(|| date_of(headers)).flatten() else {
            return false;
        };
        let skew_ms = theirs - now().as_millis();
        let known = self.skew_ms.swap(skew_ms, Ordering::Relaxed);
        if (skew_ms - known).abs() < SKEW_WORTH_CORRECTING_MS {
            self.skew_ms.store(known, Ordering::Relaxed);
            return false;
        }
        warn!(
            seconds = skew_ms / 1000,
            "this machine's clock differs from the server's; signing with theirs. Set this clock (NTP)"
        );
        true
    }
}

/// The `Date` of an answer, in milliseconds.
fn date_of(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(date.as_millisecond())
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(offset_ms: i64) -> HeaderMap {
        let at = jiff::Timestamp::from_millisecond(now().as_millis() + offset_ms).unwrap();
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
        HeaderMap::from_iter([(DATE, HeaderValue::try_from(text).unwrap())])
    }

    #[test]
    fn the_servers_clock_is_taken_over_once_and_only_when_it_is_far() {
        let signer = Signer::new(crate::testing::credentials(), "us-east-1");
        assert!(!signer.learn_skew("InvalidSignatureException", &dated(2_000)));
        assert!(!signer.learn_skew("ClientException", &dated(3_600_000)));
        assert!(signer.learn_skew("InvalidSignatureException", &dated(3_600_000)));
        assert!(!signer.learn_skew("InvalidSignatureException", &dated(3_600_000)));
        let skew_ms = signer.skew_ms.load(Ordering::Relaxed);
        assert!((skew_ms - 3_600_000).abs() < 5_000, "{skew_ms}");
    }
}
