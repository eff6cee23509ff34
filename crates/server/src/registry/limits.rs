//! The bounds of the registry, and where they come from.

use std::time::Duration;

/// Docker's and ECR's own bound is 4 MiB; manifests have some kilobytes.
pub(crate) const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// The largest layer. ECR's is 52,000 MiB; so much at once would fill the disks of most machines that keep a control plane.
pub(crate) const MAX_BLOB_BYTES: u64 = 16 << 30;

/// What must stay free on the disk: the control plane's own store lies there, and matters more than any image.
pub(crate) const LEAST_FREE_BYTES: u64 = 512 << 20;

/// Uploads that are open at once, arriving or not: each is a file descriptor. Docker sends five layers at a time.
pub(crate) const MAX_UPLOADS: usize = 128;

/// Blobs that are sent at once: each is a file descriptor and a piece in memory. Docker fetches three layers at a time, so it
/// is a hundred machines that pull at the same moment; others wait.
pub(crate) const MAX_DOWNLOADS: usize = 320;

/// How long one waits for a place among them. Docker tries again, with pauses, some five times.
pub(crate) const DOWNLOAD_WAITS: Duration = Duration::from_secs(30);

/// Manifests that arrive at once, for each of which the memory of its bound may be needed.
pub(crate) const MAX_ARRIVING_MANIFESTS: usize = 8;

/// A manifest must be here within this time, with the wait for its place: who sends slowly must not keep others from theirs.
pub(crate) const MANIFEST_ARRIVES: Duration = Duration::from_secs(60);

/// What is read or written at once.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// A body of which nothing arrives for so long is given up; what came of an upload is kept.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// Names in one page of a list.
pub(crate) const PAGE: usize = 1_000;

/// An upload of which nothing came for so long will not go on.
pub(crate) const UPLOAD_KEPT: Duration = Duration::from_secs(60 * 60);

/// A blob that no manifest refers to: of an image that is still being pushed, or was removed.
pub(crate) const BLOB_KEPT: Duration = Duration::from_secs(60 * 60);

/// A manifest that no tag stands for any more. Tasks whose image is pinned by its digest may still start for a while.
pub(crate) const UNTAGGED_KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// From one look for garbage to the next.
pub(crate) const GARBAGE_EVERY: Duration = Duration::from_secs(15 * 60);
