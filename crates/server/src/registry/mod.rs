//! The registry of images: what `longshore image push` fills and what agents pull from, so that a cluster needs no other.
//!
//! It speaks the OCI distribution protocol under `/v2/` and knows nothing of tasks. Images pass the cell by: they are files
//! beside the store, named by their content, and no decision of the control plane depends on them.
//!
//! Begin with [`Registry::answer`] and `path` (what can be asked), then `storage` (the files) and `upload`; `token` is who may
//! ask.

mod answer;
mod download;
mod garbage;
mod limits;
mod manifest;
mod name;
mod path;
mod refusal;
mod storage;
pub(crate) mod token;
mod upload;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use limits::{
    GARBAGE_EVERY, MANIFEST_ARRIVES, MAX_ARRIVING_MANIFESTS, MAX_DOWNLOADS, MAX_MANIFEST_BYTES, MAX_UPLOADS,
    PIECE_BYTES, SILENCE,
};
use name::{Digest, UploadId};
use storage::Storage;
use token::RegistryTokens;
use upload::Upload;

pub(crate) use answer::{Body, Pulse};
pub(crate) use refusal::Refusal;

/// The name of its directory in the data directory.
pub(crate) const REGISTRY_DIR: &str = "registry";

/// The registry of a server.
pub(crate) struct Registry {
    storage: Arc<Storage>,
    tokens: RegistryTokens,
    /// The uploads that something may come for. One that is not here is found on disk again.
    open: Mutex<BTreeMap<UploadId, Arc<AsyncMutex<Upload>>>>,
    downloads: Arc<Semaphore>,
    manifests: Semaphore,
}

impl Registry {
    /// With its files in this directory and its tokens sealed with this key.
    pub(crate) fn new(directory: PathBuf, key: [u8; 32]) -> Self {
        Self {
            storage: Arc::new(Storage::new(directory)),
            tokens: RegistryTokens::new(key),
            open: Mutex::default(),
            downloads: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
            manifests: Semaphore::new(MAX_ARRIVING_MANIFESTS),
        }
    }

    /// Who may ask.
    pub(crate) fn tokens(&self) -> &RegistryTokens {
        &self.tokens
    }

    /// Removes garbage from time to time, until told to stop.
    pub(crate) async fn keep_clean(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(GARBAGE_EVERY) => {}
            }
            let registry = Arc::clone(&self);
            let collected = blocking(move || {
                let open = |id: &UploadId| registry.open().contains_key(id);
                garbage::collect(&registry.storage, SystemTime::now(), open)
            });
            match collected.await {
                Ok(collected) if collected == garbage::Collected::default() => {}
                Ok(garbage::Collected { uploads, manifests, blobs }) => {
                    tracing::info!(uploads, manifests, blobs, "removed what no image of the registry needs");
                }
                Err(refusal) => {
                    tracing::warn!(why = refusal.context, "unneeded files of the registry stay for now");
                }
            }
            close_idle(&mut self.open(), 0);
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<UploadId, Arc<AsyncMutex<Upload>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work with the files.
    async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Storage) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let storage = Arc::clone(&self.storage);
        blocking(move || work(&storage)).await
    }

    /// Begins an upload.
    async fn begin(&self) -> Result<UploadId, Refusal> {
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| Refusal::failed("no randomness"))?;
        let id = UploadId::of_random(random);
        let made = id.clone();
        let upload = self.files(move |storage| {
            storage.prepare()?;
            Ok(Upload::create(storage.upload_path(&made))?)
        });
        let kept = self.keep_open(&id, upload.await?);
        if kept.is_err() {
            let unused = self.storage.upload_path(&id);
            blocking(move || Ok(fs::remove_file(unused)?)).await?;
        }
        kept.map(|_| id)
    }

    /// An upload, for one request alone.
    async fn upload(&self, id: &UploadId) -> Result<OwnedMutexGuard<Upload>, Refusal> {
        let known = self.open().get(id).cloned();
        let upload = match known {
            Some(upload) => upload,
            None => {
                let path = self.storage.upload_path(id);
                let found = blocking(move || Ok(Upload::resume(path)?)).await?.ok_or_else(Refusal::upload_unknown)?;
                self.keep_open(id, found)?
            }
        };
        let upload = upload.try_lock_owned();
        let upload = upload.map_err(|_| Refusal::out_of_order("another request writes to this upload"))?;
        match upload.is_over() {
            true => Err(Refusal::upload_unknown()),
            false => Ok(upload),
        }
    }

    /// Remembers an upload, unless the others that something arrives for are too many. One that is not remembered stays on disk.
    fn keep_open(&self, id: &UploadId, upload: Upload) -> Result<Arc<AsyncMutex<Upload>>, Refusal> {
        let mut open = self.open();
        close_idle(&mut open, MAX_UPLOADS - 1);
        match open.len() < MAX_UPLOADS {
            // Whoever was faster has read the same file.
            true => Ok(Arc::clone(open.entry(id.clone()).or_insert_with(|| Arc::new(AsyncMutex::new(upload))))),
            false => Err(Refusal::too_many()),
        }
    }

    /// Takes the body of a request into an upload, and gives that back. What arrives before the body breaks off is kept.
    async fn receive(
        &self,
        mut upload: OwnedMutexGuard<Upload>,
        body: &mut Incoming,
        pulse: &Pulse,
    ) -> Result<OwnedMutexGuard<Upload>, Refusal> {
        let mut pieces = Pieces::of(body);
        loop {
            let (arrived, end) = pieces.next().await;
            pulse.beat();
            if !arrived.is_empty() {
                upload = blocking(move || upload.append(&arrived).map(|()| upload)).await?;
            }
            match end {
                None => {}
                Some(Ok(())) => return Ok(upload),
                Some(Err(refusal)) => return Err(refusal),
            }
        }
    }

    /// Makes a blob of an upload.
    async fn finish(&self, id: &UploadId, mut upload: OwnedMutexGuard<Upload>, digest: Digest) -> Result<(), Refusal> {
        let finished = self.files(move |storage| upload.finish(storage, &digest)).await;
        self.open().remove(id);
        finished
    }

    /// Gives an upload up.
    async fn cancel(&self, id: &UploadId, mut upload: OwnedMutexGuard<Upload>) -> Result<(), Refusal> {
        self.open().remove(id);
        blocking(move || {
            upload.discard();
            Ok(())
        })
        .await
    }

    /// A manifest's bytes.
    async fn small_body(&self, body: &mut Incoming) -> Result<Vec<u8>, Refusal> {
        let arrived = async {
            let _permit = self.manifests.acquire().await.map_err(|_| Refusal::too_many())?;
            let mut pieces = Pieces::of(body);
            let mut bytes = Vec::new();
            loop {
                let (arrived, end) = pieces.next().await;
                arrived.iter().for_each(|piece| bytes.extend_from_slice(piece));
                if bytes.len() > MAX_MANIFEST_BYTES {
                    return Err(Refusal::too_large(format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes")));
                }
                match end {
                    None => {}
                    Some(result) => return result.map(|()| bytes),
                }
            }
        };
        timeout(MANIFEST_ARRIVES, arrived).await.unwrap_or_else(|_| Err(Refusal::cut_off("it did not come in time")))
    }
}

/// Closes the files of uploads for which nothing arrives now, until there are so many left.
fn close_idle(open: &mut BTreeMap<UploadId, Arc<AsyncMutex<Upload>>>, keep: usize) {
    let mut too_many = open.len().saturating_sub(keep);
    open.retain(|_, upload| {
        // Whoever has one now got it behind this lock.
        let idle = too_many > 0 && Arc::strong_count(upload) == 1;
        too_many -= usize::from(idle);
        !idle
    });
}

/// A body in pieces that are worth a write.
struct Pieces<'a>(&'a mut Incoming);

impl<'a> Pieces<'a> {
    fn of(body: &'a mut Incoming) -> Self {
        Self(body)
    }

    /// What came next, and how it ended if it did.
    async fn next(&mut self) -> (Vec<Bytes>, Option<Result<(), Refusal>>) {
        let (mut pieces, mut size) = (Vec::new(), 0);
        while size < PIECE_BYTES {
            let frame = match timeout(SILENCE, self.0.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return (pieces, Some(Ok(()))),
                Ok(Some(Err(error))) => return (pieces, Some(Err(Refusal::cut_off(error.to_string())))),
                Err(_elapsed) => return (pieces, Some(Err(Refusal::cut_off("nothing came any more")))),
            };
            if let Ok(data) = frame.into_data() {
                size += data.len();
                pieces.push(data);
            }
        }
        (pieces, None)
    }
}

/// Work that may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(io::Error::other(panic).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_upload_makes_room_for_another_and_a_busy_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path().join("registry"), [1; 32]);
        let mut busy = Vec::new();
        for _ in 0..MAX_UPLOADS {
            let id = registry.begin().await.unwrap();
            busy.push((registry.upload(&id).await.unwrap(), id));
        }
        assert_eq!(registry.begin().await.unwrap_err().code, "TOOMANYREQUESTS");
        assert_eq!(registry.open().len(), MAX_UPLOADS);
        assert_eq!(storage::names(&registry.storage.uploads()).unwrap().len(), MAX_UPLOADS, "nothing is left of it");
        let (guard, closed) = busy.remove(0);
        drop(guard);
        let id = registry.begin().await.unwrap();
        let _now_busy = registry.upload(&id).await.unwrap();
        assert_eq!(registry.open().len(), MAX_UPLOADS);
        // The one that made room is on disk, for later.
        assert_eq!(registry.upload(&closed).await.err().unwrap().code, "TOOMANYREQUESTS");
        busy.clear();
        assert_eq!(registry.upload(&closed).await.unwrap().size(), 0);
    }
}
