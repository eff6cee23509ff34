//! The floor of everything that is durable: what one small write costs on the disk that the store is on.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// About what RunTask writes for one task: its record and the frame around it.
const RECORD_BYTES: usize = 1024;
/// Room that is made beforehand, for the floor without file system bookkeeping.
const ROOM_BYTES: usize = 8 << 20;

/// Two files to write to.
pub(crate) struct Floor {
    growing: File,
    in_place: File,
    offset: usize,
}

impl Floor {
    pub(crate) fn new(dir: &Path) -> Self {
        let open = |name: &str| {
            OpenOptions::new().create(true).truncate(true).write(true).open(dir.join(name)).expect("a file")
        };
        let (growing, in_place) = (open("floor-append"), open("floor-in-place"));
        in_place.write_all_at(&vec![0; ROOM_BYTES], 0).expect("room on the disk");
        in_place.sync_all().expect("room on the disk");
        Self { growing, in_place, offset: 0 }
    }

    /// Appends 1 KiB and waits until it is durable; ms.
    pub(crate) fn append(&mut self) -> f64 {
        let record = [0x5a; RECORD_BYTES];
        let began = Instant::now();
        self.growing.write_all(&record).expect("room on the disk");
        self.growing.sync_data().expect("the disk works");
        ms_since(began)
    }

    /// Writes 1 KiB where the file has room already, and waits until it is durable; ms.
    pub(crate) fn write_in_place(&mut self) -> f64 {
        let record = [0x5a; RECORD_BYTES];
        let began = Instant::now();
        self.in_place.write_all_at(&record, self.offset as u64).expect("room on the disk");
        self.in_place.sync_data().expect("the disk works");
        self.offset = (self.offset + RECORD_BYTES) % ROOM_BYTES;
        ms_since(began)
    }
}

/// Milliseconds since an instant.
pub(crate) fn ms_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
