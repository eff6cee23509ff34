//! What can be asked: the paths of the distribution protocol. A repository's name may hold slashes, so they are read from
//! their ends.

use super::name::{Digest, Reference, Repository, UploadId};
use super::refusal::Refusal;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Is this a registry?
    Base,
    /// All repositories.
    Catalog,
    /// A repository's tags.
    Tags(Repository),
    /// A manifest.
    Manifest(Repository, Reference),
    /// A blob.
    Blob(Digest),
    /// Where uploads to a repository begin.
    Uploads(Repository),
    /// An upload.
    Upload(Repository, UploadId),
}

impl Place {
    /// Reads what follows `/v2` in a path.
    pub(super) fn of(rest: &str) -> Result<Self, Refusal> {
        let Some(rest) = rest.strip_prefix('/').filter(|rest| !rest.is_empty()) else { return Ok(Self::Base) };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let repository = |parts: &[&str]| Repository::parse(&parts.join("/"));
        match parts.as_slice() {
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => {
                let id = UploadId::parse(id).ok_or_else(Refusal::upload_unknown)?;
                Ok(Self::Upload(repository(name)?, id))
            }
            [name @ .., "blobs", digest] => repository(name).and(Digest::parse(digest)).map(Self::Blob),
            [name @ .., "manifests", reference] => Ok(Self::Manifest(repository(name)?, Reference::parse(reference)?)),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            _ => Err(Refusal::nothing_here()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_ends() {
        let repository = |name: &str| Repository::parse(name).unwrap();
        let (digest, id) = (Digest::of(b""), UploadId::of_random([1; 16]));
        for (path, expected) in [
            (String::new(), Place::Base),
            ("/".into(), Place::Base),
            ("/_catalog".into(), Place::Catalog),
            ("/app/tags/list".into(), Place::Tags(repository("app"))),
            ("/tags/list/tags/list".into(), Place::Tags(repository("tags/list"))),
            ("/a/b/manifests/1".into(), Place::Manifest(repository("a/b"), Reference::parse("1").unwrap())),
            (format!("/a/blobs/{digest}"), Place::Blob(digest.clone())),
            ("/a/blobs/uploads/".into(), Place::Uploads(repository("a"))),
            (format!("/a/b/blobs/uploads/{}", id.as_str()), Place::Upload(repository("a/b"), id.clone())),
        ] {
            assert_eq!(Place::of(&path), Ok(expected), "{path}");
        }
        for (path, code) in [
            ("/app", "UNSUPPORTED"),
            ("/../../manifests/1", "NAME_INVALID"),
            ("/manifests/1", "NAME_INVALID"),
            ("/a/manifests/.x", "MANIFEST_INVALID"),
            ("/a/blobs/sha256:..", "DIGEST_INVALID"),
            ("/a/blobs/uploads/..", "BLOB_UPLOAD_UNKNOWN"),
        ] {
            assert_eq!(Place::of(path).map_err(|refusal| refusal.code), Err(code), "{path}");
        }
    }
}
