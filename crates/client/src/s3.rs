//! Objects of an S3-compatible store: fetched, never written. One attempt with one time limit; whether to try again is the
//! caller's.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use longshore_wire::sigv4::{self, Credentials};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use tokio::time::timeout;

use crate::call::reason;
use crate::proxy::Proxies;
use crate::signer::now;
use crate::transport::{Connector, Origin, Transport};
use crate::trust::Trust;

/// The official agent's limit on one download.
const GET_LIMIT: Duration = Duration::from_secs(30);
/// An error's document is some hundred bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// The hash of the empty body that every request for an object has.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// How a store tells where a bucket is to somebody who looked in the wrong region.
const BUCKET_REGION: &str = "x-amz-bucket-region";
/// Everything in a key but the unreserved characters is escaped; its slashes are the path's.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The name of an object: its bucket, and its key in there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    bucket: String,
    key: String,
}

/// Why a text names no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("s3://bucket/key or arn:aws:s3:::bucket/key")]
pub struct ObjectNameError;

impl ObjectName {
    /// Reads `s3://bucket/key`, or an ARN of the partition `aws` or one of its kind.
    ///
    /// # Errors
    /// When it is neither, or names only a bucket.
    pub fn parse(text: &str) -> Result<Self, ObjectNameError> {
        let name = match text.strip_prefix("s3://") {
            Some(name) => name,
            None => of_arn(text).ok_or(ObjectNameError)?,
        };
        let (bucket, key) = name.split_once('/').ok_or(ObjectNameError)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if key.is_empty() || !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(fits) {
            return Err(ObjectNameError);
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The bucket that it is in.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Its key in there.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the bucket can be a label of a host name that one certificate for all buckets covers.
    fn is_host_label(&self) -> bool {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        self.bucket.len() <= 63 && self.bucket.bytes().all(fits)
    }
}

/// Bucket and key of `arn:partition:s3:::bucket/key`.
fn of_arn(text: &str) -> Option<&str> {
    let mut parts = text.splitn(6, ':');
    let is_s3 = parts.next()? == "arn" && parts.next()?.starts_with("aws") && parts.next()? == "s3";
    // Neither region nor account belongs to an object's name, but both places are there.
    parts.nth(2).filter(|_| is_s3)
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// Which store, and how to get there.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// `http://host:port` or `https://host:port` of a compatible store (`AWS_ENDPOINT_URL_S3`); without it, AWS's own.
    pub endpoint: Option<String>,
    /// Region for signatures, and of AWS's endpoints.
    pub region: String,
    /// How the store is verified.
    pub trust: Trust,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// What the store's logs call us.
    pub user_agent: &'static str,
    /// Limit on one object.
    pub limit: Duration,
}

impl S3Config {
    /// AWS's own store in that region, the system's trust roots, no proxy.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            endpoint: None,
            region: region.into(),
            trust: Trust::default(),
            proxies: Proxies::default(),
            user_agent: concat!("longshore/", env!("CARGO_PKG_VERSION")),
            limit: GET_LIMIT,
        }
    }
}

/// Why there is no object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum S3Error {
    /// The endpoint is none.
    #[error("{endpoint:?} is not the endpoint of an object store: it must be http://host:port or https://host:port")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// The store answered with an error.
    #[error("{object}: {code}: {message}")]
    Refused {
        /// What was asked for.
        object: ObjectName,
        /// HTTP status.
        status: u16,
        /// The error's name, such as `NoSuchKey`.
        code: String,
        /// The store's words.
        message: String,
    },
    /// There was no answer.
    #[error("{object}: no answer from {endpoint}: {cause}")]
    Transport {
        /// What was asked for.
        object: ObjectName,
        /// Where.
        endpoint: String,
        /// What the system said.
        cause: String,
    },
    /// It is larger than anything we can use.
    #[error("{object} is larger than {most} bytes")]
    TooLarge {
        /// What was asked for.
        object: ObjectName,
        /// The limit.
        most: usize,
    },
}

impl S3Error {
    /// Whether the same request may well work a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Refused { status, code, .. } => *status >= 500 || *status == 429 || code == "SlowDown",
            Self::Endpoint { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// Fetches objects.
#[derive(Clone, Debug)]
pub struct S3 {
    config: S3Config,
    /// The configured endpoint.
    endpoint: Option<Origin>,
    transport: Transport,
    http: HttpClient<Connector, Full<Bytes>>,
}

/// What a store answers.
enum Answer {
    Object(Bytes),
    /// Nothing for us here; where the bucket is, if the store said it.
    None {
        error: S3Error,
        region: Option<String>,
    },
}

impl S3 {
    /// A way to that store.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub fn new(config: S3Config) -> Result<Self, S3Error> {
        let endpoint = match &config.endpoint {
            None => None,
            Some(endpoint) => match Origin::of(endpoint) {
                Ok((origin, path)) if matches!(path.as_str(), "" | "/") => Some(origin),
                _ => return Err(S3Error::Endpoint { endpoint: endpoint.clone() }),
            },
        };
        let transport = Transport::new(config.trust.clone(), config.proxies.clone());
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0) // Objects are read once in a while.
            .build(Connector(transport.clone()));
        Ok(Self { config, endpoint, transport, http })
    }

    /// The object, of at most so many bytes. Without credentials the request is not signed, which is enough for an object that
    /// everybody may read. A bucket that is in another region is looked for there.
    ///
    /// # Errors
    /// When there is no answer, the store refuses, or the object is too large.
    pub async fn get(
        &self,
        credentials: Option<&Credentials>,
        object: &ObjectName,
        most_bytes: usize,
    ) -> Result<Bytes, S3Error> {
        let region = &self.config.region;
        let first = self.attempt(credentials, object, most_bytes, region).await?;
        let answer = match first {
            Answer::None { region: Some(other), .. } if other != *region => {
                self.attempt(credentials, object, most_bytes, &other).await?
            }
            first => first,
        };
        match answer {
            Answer::Object(bytes) => Ok(bytes),
            Answer::None { error, .. } => Err(error),
        }
    }

    async fn attempt(
        &self,
        credentials: Option<&Credentials>,
        object: &ObjectName,
        most: usize,
        region: &str,
    ) -> Result<Answer, S3Error> {
        let (origin, path) = self.place(object, region)?;
        let failed = |cause: String| S3Error::Transport { object: object.clone(), endpoint: origin.url(), cause };
        let request = self.request(credentials, &origin, &path, region).map_err(failed)?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| failed(reason(&error)))?;
            let (head, body) = response.into_parts();
            let is_object = head.status == StatusCode::OK;
            let limit = if is_object { most } else { MAX_ERROR_BYTES };
            let body = match Limited::new(body, limit).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    return Err(S3Error::TooLarge { object: object.clone(), most: limit });
                }
                Err(error) => return Err(failed(error.to_string())),
            };
            if is_object {
                return Ok(Answer::Object(body));
            }
            let region = head.headers.get(BUCKET_REGION).and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok(Answer::None { error: refused(object, head.status, &body), region })
        };
        timeout(self.config.limit, exchange)
            .await
            .unwrap_or_else(|_| Err(failed(format!("not within {}s", self.config.limit.as_secs()))))
    }

    /// Where an object is: AWS keeps a host per bucket; a compatible store need not have names for its buckets.
    fn place(&self, object: &ObjectName, region: &str) -> Result<(Origin, String), S3Error> {
        let key = utf8_percent_encode(&object.key, ESCAPED);
        if let Some(origin) = &self.endpoint {
            return Ok((origin.clone(), format!("/{}/{key}", object.bucket)));
        }
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let (endpoint, path) = if object.is_host_label() {
            (format!("https://{}.s3.{region}.{suffix}", object.bucket), format!("/{key}"))
        } else {
            (format!("https://s3.{region}.{suffix}"), format!("/{}/{key}", object.bucket))
        };
        match Origin::of(&endpoint) {
            Ok((origin, _)) => Ok((origin, path)),
            Err(_) => Err(S3Error::Endpoint { endpoint }),
        }
    }

    fn request(
        &self,
        credentials: Option<&Credentials>,
        origin: &Origin,
        path: &str,
        region: &str,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(origin.authority()).map_err(|error| error.to_string())?);
        headers.insert(CONTENT_SHA256, HeaderValue::from_static(EMPTY_SHA256));
        if let Some(credentials) = credentials {
            let signed = sigv4::sign(credentials, region, "s3", now(), "GET", path, &headers, b"");
            headers.extend(signed.map_err(|error| error.to_string())?);
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(self.config.user_agent));
        headers.extend(self.transport.forward_auth(origin).map(|auth| (PROXY_AUTHORIZATION, auth)));
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() =
            format!("{}{path}", origin.url()).parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// What an error's document says.
fn refused(object: &ObjectName, status: StatusCode, body: &[u8]) -> S3Error {
    let text = String::from_utf8_lossy(body);
    let code = element(&text, "Code").map_or_else(|| status.to_string(), str::to_owned);
    let message = element(&text, "Message").unwrap_or_default().to_owned();
    S3Error::Refused { object: object.clone(), status: status.as_u16(), code, message }
}

/// The text of an element that has no children: all that is read of the store's XML.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Requests, credentials, scripted_server};

    fn object(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap()
    }

    async fn store(answers: &[&str]) -> (S3, Requests) {
        let requests = Requests::default();
        let port = scripted_server(requests.clone(), answers).await;
        let config = S3Config { endpoint: Some(format!("http://127.0.0.1:{port}")), ..S3Config::new("eu-west-1") };
        (S3::new(config).unwrap(), requests)
    }

    #[test]
    fn objects_are_named_by_urls_and_arns() {
        for text in ["s3://conf/a/b.env", "arn:aws:s3:::conf/a/b.env", "arn:aws-cn:s3:::conf/a/b.env"] {
            assert_eq!(object(text).to_string(), "s3://conf/a/b.env");
        }
        for text in [
            "",
            "conf/a",
            "s3://conf",
            "s3://conf/",
            "s3:///a",
            "s3://a?b/c",
            "s3://user@host/c",
            "arn:aws:s3:::conf",
            "arn:aws:ssm:::conf/a",
            "arn:aws:s3:conf/a",
        ] {
            assert_eq!(ObjectName::parse(text), Err(ObjectNameError), "{text}");
        }
    }

    #[test]
    fn every_object_has_its_place() {
        let place = |endpoint: Option<&str>, region, name| {
            let config = S3Config { endpoint: endpoint.map(str::to_owned), ..S3Config::new(region) };
            let (origin, path) = S3::new(config).unwrap().place(&object(name), region).unwrap();
            format!("{}{path}", origin.url())
        };
        for (endpoint, region, name, expected) in [
            (None, "eu-west-1", "s3://conf/a b+c.env", "https://conf.s3.eu-west-1.amazonaws.com/a%20b%2Bc.env"),
            (None, "cn-north-1", "s3://conf/a", "https://conf.s3.cn-north-1.amazonaws.com.cn/a"),
            // A dot in the bucket would need a certificate of its own.
            (None, "eu-west-1", "s3://my.conf/a/b", "https://s3.eu-west-1.amazonaws.com/my.conf/a/b"),
            (Some("http://store:9000/"), "x", "s3://conf/a//b", "http://store:9000/conf/a//b"),
        ] {
            assert_eq!(place(endpoint, region, name), expected);
        }
        for endpoint in ["store:9000", "http://store/path", "ftp://store"] {
            let config = S3Config { endpoint: Some(endpoint.into()), ..S3Config::new("r") };
            assert!(matches!(S3::new(config), Err(S3Error::Endpoint { .. })), "{endpoint}");
        }
    }

    #[tokio::test]
    async fn an_object_is_asked_for_with_a_signature_or_without() {
        let (s3, requests) = store(&["200 OK\r\n\r\nA=1\n", "200 OK\r\n\r\n"]).await;
        let name = object("s3://conf/a.env");
        assert_eq!(s3.get(Some(&credentials()), &name, 100).await.unwrap(), "A=1\n");
        assert_eq!(s3.get(None, &name, 100).await.unwrap(), "");
        let requests = requests.lock().unwrap();
        assert!(requests[0].starts_with("GET /conf/a.env HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("/eu-west-1/s3/aws4_request") && requests[0].contains(EMPTY_SHA256));
        assert!(!requests[1].contains("authorization"), "{}", requests[1]);
    }

    #[tokio::test]
    async fn refusals_keep_the_stores_words_and_say_whether_they_pass() {
        let missing = "404 Not Found\r\n\r\n<Error><Code>NoSuchKey</Code><Message>not there</Message></Error>";
        let (s3, _) = store(&[missing, "503 Slow Down\r\n\r\n", "200 OK\r\n\r\n12345"]).await;
        let name = object("s3://conf/a.env");
        let error = s3.get(None, &name, 4).await.unwrap_err();
        assert_eq!(error.to_string(), "s3://conf/a.env: NoSuchKey: not there");
        assert!(!error.is_passing());
        assert!(s3.get(None, &name, 4).await.unwrap_err().is_passing());
        assert_eq!(s3.get(None, &name, 4).await, Err(S3Error::TooLarge { object: name.clone(), most: 4 }));
        let nobody = S3Config { endpoint: Some("http://127.0.0.1:1".into()), ..S3Config::new("r") };
        assert!(S3::new(nobody).unwrap().get(None, &name, 4).await.unwrap_err().is_passing());
    }

    #[tokio::test]
    async fn a_bucket_of_another_region_is_looked_for_there_once() {
        let elsewhere = "400 Bad Request\r\nx-amz-bucket-region: eu-south-1\r\n\r\n";
        let (s3, requests) = store(&[elsewhere, "200 OK\r\n\r\nfound", elsewhere, elsewhere]).await;
        let name = object("s3://conf/a.env");
        assert_eq!(s3.get(Some(&credentials()), &name, 100).await.unwrap(), "found");
        assert!(s3.get(Some(&credentials()), &name, 100).await.is_err());
        let requests: Vec<bool> =
            Arc::clone(&requests).lock().unwrap().iter().map(|head| head.contains("/eu-south-1/s3/")).collect();
        assert_eq!(requests, [false, true, false, true]);
    }
}
