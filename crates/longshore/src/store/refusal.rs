//! Why a command on a store ends badly although the store itself could be read.

use std::path::PathBuf;

use thiserror::Error;

/// What a store or a backup is refused for.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error(
        "bring a backup back with `longshore store restore FILE --data-dir {dir} --force`: the store is damaged\n  \
         {problems}\n\
         Without a backup, start anew in another data directory and keep this one for whoever may help",
        dir = data_dir.display()
    )]
    Damaged { data_dir: PathBuf, problems: String },

    #[error(
        "take another backup: {} was read whole, but no server would start on what is in it. Nothing was \
         changed\n  {problems}",
        file.display()
    )]
    BadBackup { file: PathBuf, problems: String },

    #[error(
        "restore into a data directory of its own: {} is there and differs from the one in the backup. Nothing was \
         changed; if the backup's is the right one, move the present one away first",
        path.display()
    )]
    OtherFile { path: PathBuf },
}
