//! Blobs on their way in: a file that grows, and the hash of what is in it. Whoever was interrupted goes on where the file
//! ends, also after the server was started anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::limits::{LEAST_FREE_BYTES, MAX_BLOB_BYTES, PIECE_BYTES};
use super::name::Digest;
use super::refusal::Refusal;
use super::storage::{Storage, check_room};

/// An upload that is open. All of it may wait for the disk.
pub(super) struct Upload {
    path: PathBuf,
    file: File,
    hash: Context,
    size: u64,
    /// The file is no longer what the hash is of, or has become a blob.
    over: bool,
}

impl Upload {
    /// A new one, empty.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        Ok(Self { path, file, hash: Context::new(&SHA256), size: 0, over: false })
    }

    /// One that is on disk; nothing if it is not.
    pub(super) fn resume(path: PathBuf) -> io::Result<Option<Self>> {
        let mut file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut hash, mut size) = (Context::new(&SHA256), 0);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(Some(Self { path, file, hash, size, over: false })),
                read => {
                    hash.update(&piece[..read]);
                    size += read as u64;
                }
            }
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Takes what arrived.
    pub(super) fn append(&mut self, pieces: &[Bytes]) -> Result<(), Refusal> {
        let more: usize = pieces.iter().map(Bytes::len).sum();
        if self.size + more as u64 > MAX_BLOB_BYTES {
            self.discard();
            return Err(Refusal::too_large(format!("a layer has at most {MAX_BLOB_BYTES} bytes")));
        }
        if let Err(refusal) = check_room(&self.file, more as u64, LEAST_FREE_BYTES) {
            self.discard();
            return Err(refusal);
        }
        for piece in pieces {
            if let Err(error) = self.file.write_all(piece) {
                // How much of it was written is not known.
                self.discard();
                return Err(error.into());
            }
            self.hash.update(piece);
        }
        self.size += more as u64;
        Ok(())
    }

    /// Makes a blob of it, if it is what it should be.
    pub(super) fn finish(&mut self, storage: &Storage, claimed: &Digest) -> Result<(), Refusal> {
        let digest = Digest::of_hash(self.hash.clone().finish().as_ref());
        if digest != *claimed {
            self.discard();
            return Err(Refusal::digest_invalid(format!("what arrived has the digest {digest}")));
        }
        // Cared for now, however long ago its last byte came.
        let durable = self.file.set_modified(SystemTime::now()).and_then(|()| self.file.sync_all());
        let written = durable.and_then(|()| self.file.metadata());
        if !written.as_ref().is_ok_and(|file| file.len() == self.size) {
            // Asked again, a disk that lost some of it would say that all is well.
            self.discard();
            let why = written.map_or_else(|error| error.to_string(), |file| format!("it has {} bytes", file.len()));
            return Err(Refusal::failed(format!("an upload of {} bytes is not on disk: {why}", self.size)));
        }
        storage.keep(&self.path, &digest)?;
        self.over = true;
        Ok(())
    }

    /// Gives it up. Its room is free at once, however long somebody keeps the file open.
    pub(super) fn discard(&mut self) {
        self.over = true;
        if let Err(error) = self.file.set_len(0).and_then(|()| fs::remove_file(&self.path)) {
            tracing::warn!(%error, file = %self.path.display(), "a broken upload cannot be removed now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &'static str) -> [Bytes; 1] {
        [Bytes::from_static(text.as_bytes())]
    }

    /// An empty one, and the directory that goes with it.
    fn storage() -> (tempfile::TempDir, Storage) {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().to_owned());
        storage.prepare().unwrap();
        (dir, storage)
    }

    #[test]
    fn an_upload_goes_on_where_it_was_left() {
        let (_dir, storage) = storage();
        let path = storage.uploads().join("x");
        assert!(Upload::resume(path.clone()).unwrap().is_none());
        Upload::create(path.clone()).unwrap().append(&piece("one ")).unwrap();
        let mut upload = Upload::resume(path.clone()).unwrap().unwrap();
        assert_eq!(upload.size(), 4);
        upload.append(&piece("two")).unwrap();
        let digest = Digest::of(b"one two");
        upload.finish(&storage, &digest).unwrap();
        assert!(upload.is_over() && !path.exists());
        assert_eq!(storage.blob(&digest).unwrap().1, 7);
    }

    #[test]
    fn what_is_not_what_it_should_be_is_thrown_away() {
        let (_dir, storage) = storage();
        let path = storage.uploads().join("x");
        let mut upload = Upload::create(path.clone()).unwrap();
        upload.append(&piece("this")).unwrap();
        assert_eq!(upload.finish(&storage, &Digest::of(b"that")).unwrap_err().code, "DIGEST_INVALID");
        assert!(upload.is_over() && !path.exists());
        assert_eq!(upload.file.metadata().unwrap().len(), 0, "it takes no room, though it is open");
        assert!(storage.blob(&Digest::of(b"this")).is_err());
    }

    #[test]
    fn a_file_that_another_hand_wrote_to_becomes_no_blob() {
        let (_dir, storage) = storage();
        let path = storage.uploads().join("x");
        let mut upload = Upload::create(path.clone()).unwrap();
        upload.append(&piece("this")).unwrap();
        Upload::resume(path.clone()).unwrap().unwrap().append(&piece(" and that")).unwrap();
        assert_eq!(upload.finish(&storage, &Digest::of(b"this")).unwrap_err().code, "UNKNOWN");
        assert!(upload.is_over() && !path.exists());
        assert!(storage.blob(&Digest::of(b"this")).is_err());
    }

    #[test]
    fn a_blob_is_as_young_as_its_end() {
        let (_dir, storage) = storage();
        let mut upload = Upload::create(storage.uploads().join("x")).unwrap();
        upload.append(&piece("slow")).unwrap();
        upload.file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let digest = Digest::of(b"slow");
        upload.finish(&storage, &digest).unwrap();
        let modified = fs::metadata(storage.blob_path(&digest)).unwrap().modified().unwrap();
        assert!(modified > SystemTime::UNIX_EPOCH, "else it is garbage before a manifest can name it");
    }
}
