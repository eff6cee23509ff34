//! Small files of the data directory: written whole or not at all, secrets readable by their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::ServerError;

/// Owner reads and writes, nobody else does anything.
pub(crate) const SECRET_MODE: u32 = 0o600;
/// Everybody may read.
pub(crate) const PUBLIC_MODE: u32 = 0o644;

/// Makes `dir` (and what it lies in), closed to others.
pub(crate) fn create_data_dir(dir: &Path) -> Result<(), ServerError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| ServerError::file("create", dir, source))
}

/// Replaces `path` by a file with these bytes and this mode. Whoever reads sees the old file or the new one; after a crash
/// too, since file and directory are synchronised.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ServerError> {
    let temporary = temporary_name(path);
    write_new(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_directory_of(path))
        .map_err(|source| {
            let _ = fs::remove_file(&temporary);
            ServerError::file("write", path, source)
        })
}

/// Reads a secret, or nothing when the file does not exist. A file that others may read is refused: the secret may be known
/// already, and silently going on would hide that.
pub(crate) fn read_secret(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, ServerError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ServerError::file("open", path, source)),
    };
    let metadata = file.metadata().map_err(|source| ServerError::file("examine", path, source))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ServerError::SecretPermissions { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    io::Read::read_to_end(&mut io::Read::take(file, 64 * 1024), &mut bytes)
        .map_err(|source| ServerError::file("read", path, source))?;
    Ok(Some(bytes))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Left over from a crash of a process with our number: nobody else writes this name.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_nothing_is_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        replace(&path, b"first, and longer", SECRET_MODE).unwrap();
        replace(&path, b"second", SECRET_MODE).unwrap();
        assert_eq!(read_secret(&path).unwrap().unwrap().as_slice(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(read_secret(&path).unwrap().is_none());
        replace(&path, b"x", PUBLIC_MODE).unwrap();
        let message = read_secret(&path).unwrap_err().to_string();
        assert!(message.contains("0644") && message.contains("chmod 600"), "{message}");
    }
}
