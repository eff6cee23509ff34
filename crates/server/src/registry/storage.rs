//! The registry's files. Every call here may wait for the disk: never on a thread of the runtime.
//!
//! ```text
//! registry/blobs/HEX                             what is stored, by its content: layers, configurations, manifests
//! registry/uploads/ID                            what is still arriving
//! registry/repositories/team+app/manifests/HEX   this blob is a manifest of team/app: its media type
//! registry/repositories/team+app/tags/TAG        the digest it stands for
//! ```
//!
//! Each file is written whole or not at all, and nothing refers to what is not on disk yet: so a crash leaves garbage at most.
//! A file's time of modification is when somebody last cared for it; garbage is what nobody did for long (`garbage`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::limits::{LEAST_FREE_BYTES, MAX_MANIFEST_BYTES};
use super::manifest;
use super::name::{Digest, Reference, Repository, Tag, UploadId};
use super::refusal::Refusal;

/// The files, and the one lock of those who change what refers to what.
pub(crate) struct Storage {
    root: PathBuf,
    /// Taken to remove a file, and to rely on one that nothing refers to yet.
    gate: Mutex<()>,
}

/// A manifest that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    /// When it came, or a tag was last moved.
    pub(crate) modified: SystemTime,
}

impl Storage {
    /// The files in this directory, which is made when something is first stored.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, gate: Mutex::default() }
    }

    /// Makes the directories, so that they are there (and surely) when something is to be stored.
    pub(super) fn prepare(&self) -> io::Result<()> {
        for directory in [self.blobs(), self.uploads(), self.repositories()] {
            if !directory.is_dir() {
                fs::create_dir_all(&directory)?;
                sync(&self.root)?;
                self.root.parent().map_or(Ok(()), sync)?;
            }
        }
        Ok(())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn upload_path(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(id.as_str())
    }

    fn tag_path(&self, repository: &Repository, tag: &Tag) -> PathBuf {
        self.tags_of(repository).join(tag.as_str())
    }

    fn tags_of(&self, repository: &Repository) -> PathBuf {
        self.repositories().join(repository.file_name()).join("tags")
    }

    fn manifests_of(&self, repository: &Repository) -> PathBuf {
        self.repositories().join(repository.file_name()).join("manifests")
    }

    pub(super) fn manifest_path(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.manifests_of(repository).join(digest.hex())
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a blob, with its size. Whoever is told that it is there may rely on it for a while.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<(File, u64), Refusal> {
        let _gate = self.gate();
        let file = found(File::open(self.blob_path(digest)))?.ok_or_else(Refusal::blob_unknown)?;
        file.set_modified(SystemTime::now())?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    /// Makes a blob of a whole upload, whose content was verified.
    pub(super) fn keep(&self, upload: &Path, digest: &Digest) -> io::Result<()> {
        let _gate = self.gate();
        fs::rename(upload, self.blob_path(digest))?;
        sync(&self.blobs())
    }

    /// The manifest of a name.
    pub(crate) fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Stored, Refusal> {
        let _gate = self.gate();
        let digest = self.resolve(repository, reference)?;
        let mut record =
            found(File::open(self.manifest_path(repository, &digest)))?.ok_or_else(Refusal::manifest_unknown)?;
        let modified = record.metadata()?.modified()?;
        let mut media_type = String::new();
        record.read_to_string(&mut media_type)?;
        let bytes = fs::read(self.blob_path(&digest))?;
        Ok(Stored { digest, media_type, bytes, modified })
    }

    fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Digest, Refusal> {
        let tag = match reference {
            Reference::Digest(digest) => return Ok(digest.clone()),
            Reference::Tag(tag) => tag,
        };
        let path = self.tag_path(repository, tag);
        let text = found(fs::read_to_string(&path))?.ok_or_else(Refusal::manifest_unknown)?;
        Digest::parse(&text).map_err(|_| Refusal::failed(format!("{} holds no digest", path.display())))
    }

    /// Stores a manifest of which all parts are there, under this name.
    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, Refusal> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(Refusal::too_large(format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes")));
        }
        let digest = Digest::of(bytes);
        if let Reference::Digest(claimed) = reference
            && *claimed != digest
        {
            return Err(Refusal::digest_invalid(format!("the manifest's digest is {digest}")));
        }
        let parts = manifest::parts(media_type, bytes)?;
        self.prepare()?;
        check_room(&File::open(&self.root)?, bytes.len() as u64, LEAST_FREE_BYTES)?;
        let _gate = self.gate();
        for part in &parts.manifests {
            self.touch(&self.manifest_path(repository, part), part)?;
        }
        for part in &parts.blobs {
            self.touch(&self.blob_path(part), part)?;
        }
        for directory in [self.manifests_of(repository), self.tags_of(repository)] {
            fs::create_dir_all(&directory)?;
        }
        write(&self.blob_path(&digest), bytes)?;
        write(&self.manifest_path(repository, &digest), media_type.as_bytes())?;
        if let Reference::Tag(tag) = reference {
            // What the tag stood for until now is kept for a while from now on.
            self.untag(repository, tag)?;
            write(&self.tag_path(repository, tag), digest.as_str().as_bytes())?;
        }
        for directory in [self.repositories().join(repository.file_name()), self.repositories()] {
            sync(&directory)?;
        }
        Ok(digest)
    }

    /// Says that a part of a manifest is needed.
    fn touch(&self, path: &Path, part: &Digest) -> Result<(), Refusal> {
        let missing = || Refusal::manifest_blob_unknown(format!("{part}, which the manifest needs, is not here"));
        let file = found(File::open(path))?.ok_or_else(missing)?;
        Ok(file.set_modified(SystemTime::now())?)
    }

    /// The manifest that a tag stands for begins to wait for its end.
    fn untag(&self, repository: &Repository, tag: &Tag) -> Result<(), Refusal> {
        if let Ok(digest) = self.resolve(repository, &Reference::Tag(tag.clone()))
            && let Some(record) = found(File::open(self.manifest_path(repository, &digest)))?
        {
            record.set_modified(SystemTime::now())?;
        }
        Ok(())
    }

    /// Removes a tag; or, by its digest, a manifest with all its tags.
    pub(crate) fn remove(&self, repository: &Repository, reference: &Reference) -> Result<(), Refusal> {
        let _gate = self.gate();
        match reference {
            Reference::Tag(tag) => {
                self.untag(repository, tag)?;
                found(fs::remove_file(self.tag_path(repository, tag)))?.ok_or_else(Refusal::manifest_unknown)?;
            }
            Reference::Digest(digest) => {
                let path = self.manifest_path(repository, digest);
                found(fs::metadata(&path))?.ok_or_else(Refusal::manifest_unknown)?;
                for tag in self.tags(repository)? {
                    if self.resolve(repository, &Reference::Tag(tag.clone())).as_ref() == Ok(digest) {
                        fs::remove_file(self.tag_path(repository, &tag))?;
                    }
                }
                fs::remove_file(path)?;
            }
        }
        self.forget_empty(repository)
    }

    /// A repository without manifests is none.
    pub(super) fn forget_empty(&self, repository: &Repository) -> Result<(), Refusal> {
        let directory = self.repositories().join(repository.file_name());
        if names(&self.manifests_of(repository))?.is_empty() && directory.is_dir() {
            fs::remove_dir_all(directory)?;
            sync(&self.repositories())?;
        }
        Ok(())
    }

    /// All repositories, in order.
    pub(crate) fn list(&self) -> Result<Vec<Repository>, Refusal> {
        let mut found: Vec<_> =
            names(&self.repositories())?.iter().filter_map(|name| Repository::of_file_name(name)).collect();
        found.sort();
        Ok(found)
    }

    /// All tags of a repository, in order.
    pub(crate) fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, Refusal> {
        if !self.repositories().join(repository.file_name()).is_dir() {
            return Err(Refusal::name_unknown());
        }
        let mut found: Vec<_> = names(&self.tags_of(repository))?.iter().filter_map(|name| Tag::parse(name)).collect();
        found.sort();
        Ok(found)
    }

    /// All manifests of a repository.
    pub(super) fn manifests(&self, repository: &Repository) -> Result<Vec<Digest>, Refusal> {
        Ok(names(&self.manifests_of(repository))?.iter().filter_map(|name| Digest::of_hex(name)).collect())
    }
}

/// Nothing for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of the files in a directory; none if there is no such directory. Temporary ones begin with a dot.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = found(fs::read_dir(directory))? else { return Ok(Vec::new()) };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    let names = entries.map(name).collect::<io::Result<Vec<_>>>()?;
    Ok(names.into_iter().flatten().filter(|name| !name.starts_with('.')).collect())
}

/// Writes a file whole or not at all, and durably. Only one at a time writes: its temporary name is always the same.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let temporary = directory.join(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync(directory)
}

/// Whether so many bytes more leave enough of the disk free: it is the store's first.
pub(super) fn check_room(on: &File, more: u64, least_free: u64) -> Result<(), Refusal> {
    let disk = rustix::fs::fstatvfs(on).map_err(io::Error::from)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match free.saturating_sub(more) < least_free {
        true => Err(Refusal::disk_full()),
        false => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

    fn repository(name: &str) -> Repository {
        Repository::parse(name).unwrap()
    }

    fn reference(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    fn blob(storage: &Storage, bytes: &[u8]) -> Digest {
        storage.prepare().unwrap();
        let upload = storage.uploads().join("x");
        fs::write(&upload, bytes).unwrap();
        let digest = Digest::of(bytes);
        storage.keep(&upload, &digest).unwrap();
        digest
    }

    fn image(storage: &Storage, name: &str, tag: &str, content: &[u8]) -> Digest {
        let config = blob(storage, content);
        let manifest = json!({"schemaVersion": 2, "config": {"digest": config.as_str()}, "layers": []}).to_string();
        storage.put_manifest(&repository(name), &reference(tag), IMAGE, manifest.as_bytes()).unwrap()
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static str {
        result.unwrap_err().code
    }

    #[test]
    fn an_image_is_found_by_its_tag_and_by_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().join("registry"));
        assert_eq!(storage.list().unwrap(), []);
        let digest = image(&storage, "team/app", "1", b"one");
        for name in ["1", digest.as_str()] {
            let stored = storage.manifest(&repository("team/app"), &reference(name)).unwrap();
            assert_eq!((stored.digest, stored.media_type.as_str()), (digest.clone(), IMAGE));
            assert_eq!(Digest::of(&stored.bytes), digest);
        }
        assert_eq!(storage.list().unwrap(), [repository("team/app")]);
        assert_eq!(storage.tags(&repository("team/app")).unwrap(), [Tag::parse("1").unwrap()]);
        assert_eq!(code(storage.manifest(&repository("team/app"), &reference("2"))), "MANIFEST_UNKNOWN");
        assert_eq!(code(storage.manifest(&repository("team"), &reference(digest.as_str()))), "MANIFEST_UNKNOWN");
        assert_eq!(code(storage.tags(&repository("team"))), "NAME_UNKNOWN");
    }

    #[test]
    fn a_manifest_needs_its_parts_and_its_own_digest() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().join("registry"));
        let missing = json!({"schemaVersion": 2, "config": {"digest": Digest::of(b"?").as_str()}}).to_string();
        let put = |name: &str, bytes: &str| {
            storage.put_manifest(&repository("app"), &reference(name), IMAGE, bytes.as_bytes())
        };
        assert_eq!(code(put("1", &missing)), "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(code(put(Digest::of(b"other").as_str(), &missing)), "DIGEST_INVALID");
        assert_eq!(code(put("1", &" ".repeat(MAX_MANIFEST_BYTES + 1))), "SIZE_INVALID");
        assert_eq!(storage.list().unwrap(), []);
    }

    #[test]
    fn nothing_is_taken_that_leaves_too_little_room() {
        let dir = tempfile::tempdir().unwrap();
        let disk = File::open(dir.path()).unwrap();
        assert_eq!(check_room(&disk, 0, 0), Ok(()));
        assert_eq!(code(check_room(&disk, 0, u64::MAX)), "DENIED");
        assert_eq!(code(check_room(&disk, u64::MAX, 1)), "DENIED");
    }

    #[test]
    fn a_tag_moves_and_what_it_stood_for_stays_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().join("registry"));
        let (app, old) = (repository("app"), image(&storage, "app", "1", b"old"));
        let new = image(&storage, "app", "1", b"new");
        assert_eq!(storage.manifest(&app, &reference("1")).unwrap().digest, new);
        assert!(storage.manifest(&app, &reference(old.as_str())).is_ok());
        storage.remove(&app, &reference("1")).unwrap();
        assert_eq!(code(storage.remove(&app, &reference("1"))), "MANIFEST_UNKNOWN");
        assert!(storage.manifest(&app, &reference(new.as_str())).is_ok());
        storage.remove(&app, &reference(new.as_str())).unwrap();
        assert_eq!(code(storage.remove(&app, &reference(new.as_str()))), "MANIFEST_UNKNOWN");
        storage.remove(&app, &reference(old.as_str())).unwrap();
        assert_eq!(storage.list().unwrap(), []);
        assert_eq!(code(storage.remove(&app, &reference("1"))), "MANIFEST_UNKNOWN");
    }

    #[test]
    fn a_manifest_that_is_removed_takes_its_tags_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().join("registry"));
        let digest = image(&storage, "app", "1", b"same");
        image(&storage, "app", "2", b"same");
        image(&storage, "app", "3", b"other");
        storage.remove(&repository("app"), &reference(digest.as_str())).unwrap();
        assert_eq!(storage.tags(&repository("app")).unwrap(), [Tag::parse("3").unwrap()]);
    }
}
