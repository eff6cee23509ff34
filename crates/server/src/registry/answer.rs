//! The protocol: a request comes in, its answer goes out.

use std::fmt::Display;
use std::io;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED, LINK, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use longshore_core::Role;
use longshore_wire::query;
use tokio::time::timeout;

use super::limits::{DOWNLOAD_WAITS, PAGE};
use super::name::{Digest, Reference, Repository, UploadId};
use super::path::Place;
use super::refusal::Refusal;
use super::{Registry, download};

/// What an answer carries: a few bytes, or a blob.
pub(crate) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, io::Error>>;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Tells a connection that something moves on it.
#[derive(Clone)]
pub(crate) struct Pulse(std::sync::Arc<dyn Fn() + Send + Sync>);

impl Pulse {
    pub(crate) fn new(beat: impl Fn() + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(beat))
    }

    pub(crate) fn beat(&self) {
        (self.0)();
    }
}

impl Refusal {
    /// As an answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut answer = Answer::new(self.status).header(CONTENT_TYPE, "application/json");
        match self.status {
            StatusCode::UNAUTHORIZED => answer = answer.header(WWW_AUTHENTICATE, "Basic realm=\"Longshore\""),
            StatusCode::METHOD_NOT_ALLOWED => answer = answer.header(ALLOW, "GET, HEAD"),
            _ => {}
        }
        answer.bytes(self.to_json())
    }
}

/// An answer in the making.
struct Answer(Response<()>);

impl Answer {
    fn new(status: StatusCode) -> Self {
        let mut response = Response::new(());
        *response.status_mut() = status;
        Self(response).header(API_VERSION, "registry/2.0")
    }

    fn header(mut self, name: HeaderName, value: impl Display) -> Self {
        // All of them are made of names that were checked, and numbers.
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    fn digest(self, digest: &Digest) -> Self {
        self.header(CONTENT_DIGEST, digest).header(ETAG, format_args!("\"{digest}\""))
    }

    fn empty(self) -> Response<Body> {
        self.bytes(Vec::new())
    }

    fn bytes(self, bytes: Vec<u8>) -> Response<Body> {
        self.0.map(|()| Either::Left(Full::new(bytes.into())))
    }

    fn json(self, value: &serde_json::Value) -> Response<Body> {
        self.header(CONTENT_TYPE, "application/json").bytes(value.to_string().into_bytes())
    }
}

impl Registry {
    /// Answers a request of somebody with this role.
    pub(crate) async fn answer(
        &self,
        role: Role,
        head: &Parts,
        body: &mut Incoming,
        pulse: Pulse,
    ) -> Result<Response<Body>, Refusal> {
        let place = Place::of(head.uri.path().strip_prefix("/v2").unwrap_or_default())?;
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        // How far an upload is, is none of a machine's business.
        let pulls = reads && !matches!(place, Place::Upload(..));
        match (role, pulls) {
            (Role::Owner, _) | (Role::Instance | Role::TaskExecution, true) => {}
            (Role::Instance | Role::TaskExecution, false) => {
                return Err(Refusal::denied("machines may pull, and nothing else"));
            }
            (Role::JoinToken, _) => return Err(Refusal::denied("a join token is for joining")),
        }
        let asked = Asked { head, pulse };
        match place {
            Place::Base if reads => Ok(Answer::new(StatusCode::OK).json(&serde_json::json!({}))),
            Place::Catalog if reads => self.catalog(&asked).await,
            Place::Tags(repository) if reads => self.tags(&asked, repository).await,
            Place::Manifest(repository, reference) => self.manifest(&asked, repository, reference, body).await,
            Place::Blob(digest) if reads => self.blob(&asked, digest).await,
            Place::Uploads(repository) if head.method == Method::POST => {
                self.new_upload(&asked, repository, body).await
            }
            Place::Upload(repository, id) => self.on_upload(&asked, repository, id, body).await,
            _ => Err(unsupported()),
        }
    }

    async fn catalog(&self, asked: &Asked<'_>) -> Result<Response<Body>, Refusal> {
        let names = self.files(|storage| storage.list()).await?;
        let names = names.iter().map(|name| name.as_str().to_owned()).collect();
        let (names, answer) = asked.page(names, "/v2/_catalog");
        Ok(answer.json(&serde_json::json!({ "repositories": names })))
    }

    async fn tags(&self, asked: &Asked<'_>, repository: Repository) -> Result<Response<Body>, Refusal> {
        let name = repository.as_str().to_owned();
        let tags = self.files(move |storage| storage.tags(&repository)).await?;
        let tags = tags.iter().map(|tag| tag.as_str().to_owned()).collect();
        let (tags, answer) = asked.page(tags, &format!("/v2/{name}/tags/list"));
        Ok(answer.json(&serde_json::json!({ "name": name, "tags": tags })))
    }

    async fn manifest(
        &self,
        asked: &Asked<'_>,
        repository: Repository,
        reference: Reference,
        body: &mut Incoming,
    ) -> Result<Response<Body>, Refusal> {
        match asked.head.method {
            Method::GET | Method::HEAD => {
                let stored = self.files(move |storage| storage.manifest(&repository, &reference)).await?;
                let answer = Answer::new(StatusCode::OK)
                    .digest(&stored.digest)
                    .header(CONTENT_TYPE, &stored.media_type)
                    .header(CONTENT_LENGTH, stored.bytes.len())
                    .header(LAST_MODIFIED, http_date(stored.modified));
                Ok(match asked.head.method {
                    Method::HEAD => answer.empty(),
                    _ => answer.bytes(stored.bytes),
                })
            }
            Method::PUT => {
                let content_type = asked.header(&CONTENT_TYPE).unwrap_or_default();
                let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
                let bytes = self.small_body(body).await?;
                let name = repository.as_str().to_owned();
                let stored =
                    self.files(move |storage| storage.put_manifest(&repository, &reference, &media_type, &bytes));
                let digest = stored.await?;
                let location = format!("/v2/{name}/manifests/{digest}");
                Ok(Answer::new(StatusCode::CREATED).digest(&digest).header(LOCATION, location).empty())
            }
            Method::DELETE => {
                self.files(move |storage| storage.remove(&repository, &reference)).await?;
                Ok(Answer::new(StatusCode::ACCEPTED).empty())
            }
            _ => Err(unsupported()),
        }
    }

    async fn blob(&self, asked: &Asked<'_>, digest: Digest) -> Result<Response<Body>, Refusal> {
        let wanted = digest.clone();
        let (file, size) = self.files(move |storage| storage.blob(&wanted)).await?;
        let range = asked.header(&RANGE).and_then(|range| part(range, size));
        let (status, first, bytes) = match range {
            Some(Some((first, bytes))) => (StatusCode::PARTIAL_CONTENT, first, bytes),
            Some(None) => return Ok(beyond(size)),
            None => (StatusCode::OK, 0, size),
        };
        let mut answer = Answer::new(status)
            .digest(&digest)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(ACCEPT_RANGES, "bytes")
            .header(CONTENT_LENGTH, bytes);
        if status == StatusCode::PARTIAL_CONTENT {
            answer = answer.header(CONTENT_RANGE, format_args!("bytes {first}-{}/{size}", first + bytes - 1));
        }
        if asked.head.method == Method::HEAD {
            return Ok(answer.empty());
        }
        let permit = timeout(DOWNLOAD_WAITS, self.downloads.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(Refusal::too_many)?;
        Ok(answer.0.map(|()| Either::Right(download::body(file, first, bytes, permit, asked.pulse.clone()))))
    }

    /// Three things at once: a blob of another repository is made one of this, a blob comes whole, or an upload begins.
    async fn new_upload(
        &self,
        asked: &Asked<'_>,
        repository: Repository,
        body: &mut Incoming,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(mount) = asked.parameter("mount") {
            let digest = Digest::parse(&mount)?;
            let wanted = digest.clone();
            if self.files(move |storage| storage.blob(&wanted)).await.is_ok() {
                return Ok(stored(&repository, &digest));
            }
        }
        let whole = asked.parameter("digest").map(|digest| Digest::parse(&digest)).transpose()?;
        let id = self.begin().await?;
        let Some(digest) = whole else { return Ok(arriving(StatusCode::ACCEPTED, &repository, &id, 0)) };
        let upload = self.upload(&id).await?;
        let upload = self.receive(upload, body, &asked.pulse).await?;
        self.finish(&id, upload, digest.clone()).await?;
        Ok(stored(&repository, &digest))
    }

    async fn on_upload(
        &self,
        asked: &Asked<'_>,
        repository: Repository,
        id: UploadId,
        body: &mut Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let upload = self.upload(&id).await?;
        match asked.head.method {
            Method::GET | Method::HEAD => Ok(arriving(StatusCode::NO_CONTENT, &repository, &id, upload.size())),
            Method::PATCH => {
                asked.goes_on_at(upload.size())?;
                let upload = self.receive(upload, body, &asked.pulse).await?;
                Ok(arriving(StatusCode::ACCEPTED, &repository, &id, upload.size()))
            }
            Method::PUT => {
                let digest = asked.parameter("digest");
                let digest = digest.ok_or_else(|| Refusal::digest_invalid("the parameter digest is missing"))?;
                let digest = Digest::parse(&digest)?;
                asked.goes_on_at(upload.size())?;
                let upload = self.receive(upload, body, &asked.pulse).await?;
                self.finish(&id, upload, digest.clone()).await?;
                Ok(stored(&repository, &digest))
            }
            Method::DELETE => {
                self.cancel(&id, upload).await?;
                Ok(Answer::new(StatusCode::NO_CONTENT).empty())
            }
            _ => Err(unsupported()),
        }
    }
}

/// A request, but for its body.
struct Asked<'a> {
    head: &'a Parts,
    pulse: Pulse,
}

impl Asked<'_> {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        header(&self.head.headers, name)
    }

    fn parameter(&self, name: &str) -> Option<String> {
        query::parameter(self.head.uri.query().unwrap_or_default(), name)
    }

    /// What comes is to follow what is there. Docker does not say; others give `FIRST-LAST`.
    fn goes_on_at(&self, size: u64) -> Result<(), Refusal> {
        let Some(range) = self.header(&CONTENT_RANGE) else { return Ok(()) };
        let first = range.strip_prefix("bytes ").unwrap_or(range).split('-').next();
        match first.and_then(|first| first.parse::<u64>().ok()) {
            Some(first) if first == size => Ok(()),
            _ => Err(Refusal::out_of_order(format!("the upload goes on at byte {size}"))),
        }
    }

    /// A page of a sorted list, and an answer that says where the next one is.
    fn page(&self, names: Vec<String>, path: &str) -> (Vec<String>, Answer) {
        let number = self.parameter("n").and_then(|number| number.parse::<usize>().ok()).unwrap_or(PAGE).min(PAGE);
        let last = self.parameter("last").unwrap_or_default();
        let mut rest = names.into_iter().filter(|name| *name > last);
        let page: Vec<String> = rest.by_ref().take(number).collect();
        let answer = Answer::new(StatusCode::OK);
        match (page.last(), rest.next()) {
            (Some(last), Some(_)) => {
                let link = format!("<{path}?n={number}&last={last}>; rel=\"next\"");
                (page, answer.header(LINK, link))
            }
            _ => (page, answer),
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes=FIRST-LAST` of so many bytes: the first one and how many. The inner nothing is a part that is not there; what is not
/// of this form is as if it were not said, as HTTP has it.
fn part(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.trim().parse().ok()?;
    let last = match last.trim() {
        "" => u64::MAX,
        last => last.parse().ok()?,
    };
    let last = last.min(size.saturating_sub(1));
    Some((first <= last && first < size).then(|| (first, last - first + 1)))
}

fn beyond(size: u64) -> Response<Body> {
    Answer::new(StatusCode::RANGE_NOT_SATISFIABLE).header(CONTENT_RANGE, format_args!("bytes */{size}")).empty()
}

/// A blob is there.
fn stored(repository: &Repository, digest: &Digest) -> Response<Body> {
    let location = format!("/v2/{}/blobs/{digest}", repository.as_str());
    Answer::new(StatusCode::CREATED).digest(digest).header(LOCATION, location).empty()
}

/// How far an upload is. Places are told without a host: whoever asked knows by which one he came.
fn arriving(status: StatusCode, repository: &Repository, id: &UploadId, size: u64) -> Response<Body> {
    let location = format!("/v2/{}/blobs/uploads/{}", repository.as_str(), id.as_str());
    Answer::new(status)
        .header(LOCATION, location)
        .header(UPLOAD_ID, id.as_str())
        .header(RANGE, format_args!("0-{}", size.saturating_sub(1)))
        .empty()
}

fn unsupported() -> Refusal {
    Refusal::unsupported("this cannot be done here")
}

/// As HTTP writes a time.
fn http_date(at: std::time::SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_blob_is_where_the_header_says() {
        assert_eq!(part("bytes=0-", 10), Some(Some((0, 10))));
        assert_eq!(part("bytes=4-", 10), Some(Some((4, 6))));
        assert_eq!(part("bytes=4-5", 10), Some(Some((4, 2))));
        assert_eq!(part("bytes=4-99", 10), Some(Some((4, 6))));
        assert_eq!(part("bytes=10-", 10), Some(None));
        assert_eq!(part("bytes=0-", 0), Some(None));
        assert_eq!(part("bytes=5-4", 10), Some(None));
        for other in ["bytes=-5", "bytes=a-b", "lines=0-", "bytes=0-1,3-4"] {
            assert_eq!(part(other, 10), None, "{other}");
        }
    }

    #[test]
    fn a_list_is_read_in_pages() {
        let names: Vec<String> = ["a", "b/c", "d"].map(str::to_owned).to_vec();
        let page = |query: &str| {
            let request = http::Request::builder().uri(format!("/v2/_catalog{query}")).body(()).unwrap();
            let head = request.into_parts().0;
            let (page, answer) = Asked { head: &head, pulse: Pulse::new(|| ()) }.page(names.clone(), "/v2/_catalog");
            let response = answer.empty();
            (page.join(" "), header(response.headers(), &LINK).map(str::to_owned))
        };
        assert_eq!(page(""), ("a b/c d".to_owned(), None));
        let next = "</v2/_catalog?n=2&last=b/c>; rel=\"next\"".to_owned();
        assert_eq!(page("?n=2"), ("a b/c".to_owned(), Some(next)));
        assert_eq!(page("?n=2&last=b/c"), ("d".to_owned(), None));
        assert_eq!(page("?n=0"), (String::new(), None));
    }
}
