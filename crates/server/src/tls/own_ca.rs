//! The server's own authority: made at the first start, and the certificates that it issues to the server itself.
//!
//! `tls/` in the data directory holds `ca.pem` and `ca-key.pem`, which are kept for ten years; `server.pem` and
//! `server-key.pem`, which are made anew at every start, before they expire, and when the machine's names change; and
//! `bundle.pem`, the system's roots and the authority in one file, for tools that take one file in place of the system's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use jiff::tz::TimeZone;
use longshore_api::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;

use super::given::url_host;
use super::x509::Facts;
use super::{Identity, pem, provider};
use crate::clock;
use crate::error::ServerError;
use crate::files;
use crate::server::reachable;

const DIR: &str = "tls";
const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";
const CERT_FILE: &str = "server.pem";
const KEY_FILE: &str = "server-key.pem";
const BUNDLE_FILE: &str = "bundle.pem";

/// Ten years, and the longest life that clients accept of a certificate that an authority issued.
const CA_DAYS: i64 = 3_650;
const CERT_DAYS: i64 = 397;
/// A certificate is renewed when it has less than this left.
const RENEW_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 3_600_000;

/// The authority.
pub(super) struct OwnCa {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    not_after: Timestamp,
    /// Names that the operator wants besides those we find.
    names: Vec<String>,
    /// What the certificate that was issued last is for, and its end.
    issued: Mutex<Option<(BTreeSet<String>, Timestamp)>>,
}

impl OwnCa {
    /// The authority of this data directory, made now if there is none.
    pub(super) fn load_or_create(data_dir: &Path, names: Vec<String>) -> Result<Self, ServerError> {
        let dir = data_dir.join(DIR);
        files::create_data_dir(&dir)?;
        let key = load_or_create_key(&dir)?;
        let params = params(&key);
        let certificate = load_or_create_certificate(&dir, &key, &params)?;
        let damaged = || damaged(&dir.join(CA_FILE), "it is no certificate");
        let not_after = Facts::of(&certificate).ok_or_else(damaged)?.not_after;
        let issuer = Issuer::new(params, key);
        let own = Self { dir, issuer, certificate, not_after, names, issued: Mutex::default() };
        own.write_bundle()?;
        Ok(own)
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.dir.join(CA_FILE)
    }

    pub(super) fn bundle_file(&self) -> PathBuf {
        self.dir.join(BUNDLE_FILE)
    }

    /// Whether another certificate should be issued: the last one ends soon, or the machine has other names by now.
    pub(super) fn is_due(&self, listen: SocketAddr, now: Timestamp) -> bool {
        match &*self.issued.lock().unwrap_or_else(PoisonError::into_inner) {
            None => true,
            Some((names, not_after)) => not_after.since(now) < RENEW_DAYS * DAY_MS || *names != self.all_names(listen),
        }
    }

    /// Issues a certificate for all names that this machine has now.
    pub(super) fn identity(&self, listen: SocketAddr, now: Timestamp) -> Result<Identity, ServerError> {
        let names = self.all_names(listen);
        let end = now.plus_millis((CERT_DAYS - 1) * DAY_MS).min(self.not_after);
        let (certificate, key) = self.issue(&names, now, end).map_err(|error| self.not_made(&error))?;
        let text = pem::certificate(&certificate) + &pem::certificate(&self.certificate);
        files::replace(&self.dir.join(KEY_FILE), key.serialize_pem().as_bytes(), files::SECRET_MODE)?;
        files::replace(&self.dir.join(CERT_FILE), text.as_bytes(), files::PUBLIC_MODE)?;
        let not_after = Facts::of(&certificate).map_or(end, |facts| facts.not_after);
        let chain = vec![certificate, self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| self.not_made(&error))?;
        *self.issued.lock().unwrap_or_else(PoisonError::into_inner) = Some((names, not_after));
        Ok(Identity {
            certified: Arc::new(certified),
            not_after,
            local_host: url_host(reachable(listen).ip()),
            pinned: self.certificate.clone(),
        })
    }

    fn issue(
        &self,
        names: &BTreeSet<String>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        params.distinguished_name = named("longshore server");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Clocks of clients differ: valid since yesterday.
        set_life(&mut params, from.plus_millis(-DAY_MS), to);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.into(), key))
    }

    /// Every name and address by which this machine may be called.
    fn all_names(&self, listen: SocketAddr) -> BTreeSet<String> {
        let mut addresses: BTreeSet<IpAddr> = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into();
        match listen.ip().is_unspecified() {
            false => drop(addresses.insert(listen.ip())),
            true => addresses.extend(interface_addresses()),
        }
        let hostname = rustix::system::uname().nodename().to_str().map(str::to_owned).ok();
        let hostname = hostname.filter(|name| is_name(name));
        let found = addresses.iter().map(ToString::to_string).chain(["localhost".to_owned()]).chain(hostname);
        found.chain(self.names.iter().cloned()).collect()
    }

    fn write_bundle(&self) -> Result<(), ServerError> {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "cannot read some of the system's trusted certificates");
        }
        let system = system.certs.iter().map(|certificate| pem::certificate(certificate));
        let text: String = system.chain([pem::certificate(&self.certificate)]).collect();
        files::replace(&self.bundle_file(), text.as_bytes(), files::PUBLIC_MODE)
    }

    fn not_made(&self, error: &dyn std::error::Error) -> ServerError {
        ServerError::Certificate { dir: self.dir.clone(), problem: error.to_string() }
    }
}

/// Refuses what is neither a DNS name nor an address.
pub(crate) fn is_name(name: &str) -> bool {
    ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

/// Written first: a key without a certificate is what a crash leaves, a certificate without its key is a loss.
fn load_or_create_key(dir: &Path) -> Result<KeyPair, ServerError> {
    let path = dir.join(CA_KEY_FILE);
    if let Some(bytes) = files::read_secret(&path)? {
        let text = std::str::from_utf8(&bytes).map_err(|_| damaged(&path, "it is not text"))?;
        return KeyPair::from_pem(text).map_err(|error| damaged(&path, &error.to_string()));
    }
    if dir.join(CA_FILE).exists() {
        return Err(damaged(&dir.join(CA_FILE), "its key, ca-key.pem, is missing"));
    }
    let key = KeyPair::generate()
        .map_err(|error| ServerError::Certificate { dir: dir.to_owned(), problem: error.to_string() })?;
    files::replace(&path, key.serialize_pem().as_bytes(), files::SECRET_MODE)?;
    Ok(key)
}

fn load_or_create_certificate(
    dir: &Path,
    key: &KeyPair,
    params: &CertificateParams,
) -> Result<CertificateDer<'static>, ServerError> {
    let path = dir.join(CA_FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            let certificate =
                CertificateDer::from_pem_slice(&bytes).map_err(|error| damaged(&path, &error.to_string()))?;
            let of_key = Facts::of(&certificate)
                .is_some_and(|facts| facts.public_key == key.subject_public_key_info().as_slice());
            match of_key {
                true => Ok(certificate),
                false => Err(damaged(&path, "its key is another than ca-key.pem")),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = params
                .self_signed(key)
                .map_err(|error| ServerError::Certificate { dir: dir.to_owned(), problem: error.to_string() })?;
            files::replace(&path, pem::certificate(made.der()).as_bytes(), files::PUBLIC_MODE)?;
            Ok(made.into())
        }
        Err(source) => Err(ServerError::file("read", &path, source)),
    }
}

/// The authority's own certificate. Its name is made from its key: two installations do not look like one, and an issuer
/// is put together again without reading its certificate.
fn params(key: &KeyPair) -> CertificateParams {
    let of_key = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("longshore authority {}", hex::encode(&of_key.as_ref()[..4])));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = clock::now();
    set_life(&mut params, now.plus_millis(-DAY_MS), now.plus_millis(CA_DAYS * DAY_MS));
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// From midnight of one day to that of another: certificates need no more precision, and the library's dates have none.
fn set_life(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let day = |at: Timestamp| {
        let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default().to_zoned(TimeZone::UTC);
        rcgen::date_time_ymd(at.year().into(), at.month().unsigned_abs(), at.day().unsigned_abs())
    };
    params.not_before = day(from);
    params.not_after = day(to);
}

/// Of all interfaces; those that mean something on one link only are no names.
fn interface_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list this machine's addresses: name them with --tls-name");
        Vec::new()
    });
    let of_link = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    interfaces.iter().map(|interface| interface.ip()).filter(|address| !of_link(address)).collect()
}

fn damaged(path: &Path, problem: &str) -> ServerError {
    ServerError::DamagedAuthority { path: path.to_owned(), problem: problem.to_owned() }
}
