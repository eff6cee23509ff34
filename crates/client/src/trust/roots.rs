//! Certificates from PEM files, and where systems keep theirs.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::TrustError;

/// Where systems keep all roots in one file: Debian, Red Hat, SUSE, OpenELEC, newer Red Hat, Alpine. The first one counts.
const SYSTEM_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates in `pem`, of which there must be one.
pub(super) fn from_pem(pem: &[u8], from: &str) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let certificates = certificates(pem);
    if certificates.is_empty() {
        return Err(TrustError::NoCertificate { from: from.to_owned() });
    }
    Ok(certificates)
}

/// The certificates in a file that somebody named.
pub(super) fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    from_pem(&read(path)?, &path.display().to_string())
}

/// The system's roots, or those of the file and the folders that are named instead.
pub(super) fn system(file: Option<&Path>, dirs: Option<&str>) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut roots = Vec::new();
    match file {
        Some(path) => roots.extend(from_file(path)?),
        // Folders alone were named: they are meant to be all there is.
        None if dirs.is_some() => {}
        None => {
            let found = SYSTEM_FILES.iter().find_map(|path| std::fs::read(path).ok());
            roots.extend(found.iter().flat_map(|pem| certificates(pem)));
        }
    }
    for dir in dirs.unwrap_or_default().split(':').filter(|dir| !dir.is_empty()) {
        for path in files_in(Path::new(dir))? {
            // Such folders hold other things too, and links that lead nowhere.
            roots.extend(std::fs::read(&path).iter().flat_map(|pem| certificates(pem)));
        }
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, TrustError> {
    let unreadable = |source| TrustError::Unreadable { path: dir.to_owned(), source };
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort_unstable();
    Ok(files)
}
