//! What nothing refers to any more goes, once nobody cared for it for long enough.
//!
//! What is needed is marked first, without holding anybody up; then each file that was not marked is looked at again behind
//! the gate, and goes if it is still as old as it was: whoever relies on a file meanwhile has made it young.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::limits::{BLOB_KEPT, UNTAGGED_KEPT, UPLOAD_KEPT};
use super::manifest;
use super::name::{Digest, Reference, Repository, UploadId};
use super::refusal::Refusal;
use super::storage::{Storage, names};

/// What a look for garbage removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) uploads: usize,
    pub(crate) manifests: usize,
    pub(crate) blobs: usize,
}

/// Removes what is garbage at this time. `open` says of which uploads something may still come.
pub(crate) fn collect(
    storage: &Storage,
    now: SystemTime,
    open: impl Fn(&UploadId) -> bool,
) -> Result<Collected, Refusal> {
    let mut collected = Collected::default();
    for name in names(&storage.uploads())? {
        let id = UploadId::parse(&name);
        let gone = !id.is_some_and(|id| open(&id));
        collected.uploads += usize::from(gone && remove(storage, &storage.uploads().join(name), now, UPLOAD_KEPT)?);
    }
    let mut needed = BTreeSet::new();
    for repository in storage.list()? {
        let tagged = tagged(storage, &repository)?;
        for digest in storage.manifests(&repository)? {
            let path = storage.manifest_path(&repository, &digest);
            if !tagged.contains(&digest) && remove(storage, &path, now, UNTAGGED_KEPT)? {
                collected.manifests += 1;
                continue;
            }
            let parts = parts(storage, &repository, &digest)?;
            needed.extend(parts.blobs);
            needed.insert(digest);
        }
        let _gate = storage.gate();
        storage.forget_empty(&repository)?;
    }
    for name in names(&storage.blobs())? {
        let garbage = Digest::of_hex(&name).is_none_or(|digest| !needed.contains(&digest));
        collected.blobs += usize::from(garbage && remove(storage, &storage.blobs().join(name), now, BLOB_KEPT)?);
    }
    Ok(collected)
}

/// The manifests that tags stand for, with those of an index.
fn tagged(storage: &Storage, repository: &Repository) -> Result<BTreeSet<Digest>, Refusal> {
    let mut tagged = BTreeSet::new();
    for tag in storage.tags(repository)? {
        let Ok(stored) = storage.manifest(repository, &Reference::Tag(tag)) else { continue };
        tagged.extend(manifest::parts(&stored.media_type, &stored.bytes)?.manifests);
        tagged.insert(stored.digest);
    }
    Ok(tagged)
}

/// What a manifest needs. One that was removed meanwhile needs nothing.
fn parts(storage: &Storage, repository: &Repository, digest: &Digest) -> Result<manifest::Parts, Refusal> {
    match storage.manifest(repository, &Reference::Digest(digest.clone())) {
        Ok(stored) => manifest::parts(&stored.media_type, &stored.bytes),
        Err(refusal) if refusal == Refusal::manifest_unknown() => Ok(manifest::Parts::default()),
        Err(refusal) => Err(refusal),
    }
}

/// Removes a file that was left alone for so long. Says whether it did.
fn remove(storage: &Storage, path: &Path, now: SystemTime, kept: Duration) -> io::Result<bool> {
    let _gate = storage.gate();
    let modified = match fs::metadata(path) {
        Ok(metadata) => metadata.modified()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let old = now.duration_since(modified).is_ok_and(|age| age >= kept);
    if old {
        fs::remove_file(path)?;
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    struct World {
        storage: Storage,
        app: Repository,
        _dir: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let storage = Storage::new(dir.path().join("registry"));
            storage.prepare().unwrap();
            Self { storage, app: Repository::parse("app").unwrap(), _dir: dir }
        }

        fn blob(&self, bytes: &[u8]) -> Digest {
            let upload = self.storage.uploads().join(".x");
            fs::write(&upload, bytes).unwrap();
            self.storage.keep(&upload, &Digest::of(bytes)).unwrap();
            Digest::of(bytes)
        }

        fn put(&self, name: &str, media_type: &str, value: serde_json::Value) -> Digest {
            let reference = Reference::parse(name).unwrap();
            self.storage.put_manifest(&self.app, &reference, media_type, value.to_string().as_bytes()).unwrap()
        }

        fn collect(&self, after: Duration) -> Collected {
            collect(&self.storage, SystemTime::now() + after, |_| false).unwrap()
        }

        fn has(&self, digest: &Digest) -> bool {
            self.storage.blob_path(digest).exists()
        }
    }

    fn image_of(config: &Digest) -> serde_json::Value {
        json!({"schemaVersion": 2, "config": {"digest": config.as_str()}, "layers": []})
    }

    #[test]
    fn what_a_tag_reaches_stays_for_ever() {
        let world = World::new();
        let config = world.blob(b"config");
        let bytes = image_of(&config).to_string();
        let image = world.put(Digest::of(bytes.as_bytes()).as_str(), IMAGE, image_of(&config));
        let index = json!({"schemaVersion": 2, "manifests": [{"digest": image.as_str()}]});
        let index = world.put("1", INDEX, index);
        assert_eq!(world.collect(100 * UNTAGGED_KEPT), Collected::default());
        assert!([&config, &image, &index].into_iter().all(|digest| world.has(digest)));
    }

    #[test]
    fn what_no_tag_reaches_goes_after_its_time_and_not_before() {
        let world = World::new();
        let (old, new) = (world.blob(b"old"), world.blob(b"new"));
        let (first, second) = (world.put("1", IMAGE, image_of(&old)), world.put("1", IMAGE, image_of(&new)));
        assert_eq!(world.collect(UNTAGGED_KEPT / 2), Collected::default());
        assert_eq!(world.collect(UNTAGGED_KEPT * 2), Collected { uploads: 0, manifests: 1, blobs: 2 });
        assert!(!world.has(&first) && !world.has(&old) && world.has(&second) && world.has(&new));
        assert_eq!(world.collect(UNTAGGED_KEPT * 2), Collected::default());
    }

    #[test]
    fn what_is_being_pushed_is_left_alone_for_a_while() {
        let world = World::new();
        let (layer, id) = (world.blob(b"layer"), UploadId::of_random([7; 16]));
        fs::write(world.storage.upload_path(&id), b"half").unwrap();
        assert_eq!(world.collect(BLOB_KEPT / 2), Collected::default());
        let later = SystemTime::now() + 2 * BLOB_KEPT;
        let open = collect(&world.storage, later, |open| *open == id).unwrap();
        assert_eq!(open, Collected { uploads: 0, manifests: 0, blobs: 1 });
        assert!(!world.has(&layer));
        assert_eq!(world.collect(2 * UPLOAD_KEPT), Collected { uploads: 1, manifests: 0, blobs: 0 });
    }

    #[test]
    fn a_repository_without_images_is_forgotten() {
        let world = World::new();
        world.put("1", IMAGE, image_of(&world.blob(b"config")));
        world.storage.remove(&world.app, &Reference::parse("1").unwrap()).unwrap();
        assert_eq!(world.storage.list().unwrap().len(), 1);
        world.collect(UNTAGGED_KEPT * 2);
        assert_eq!(world.storage.list().unwrap(), []);
    }
}
