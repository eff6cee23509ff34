use std::fs;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::config::{ServerConfig, TlsConfig};

const DAY_MS: i64 = 24 * 3_600_000;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8470))
}

fn own(dir: &std::path::Path) -> Tls {
    let mut config = ServerConfig::new(dir);
    config.tls = Some(TlsConfig::Own { names: Vec::new() });
    Tls::start(&config, loopback()).unwrap().unwrap()
}

fn shown(tls: &Tls) -> Vec<CertificateDer<'static>> {
    tls.shown.0.load().cert.clone()
}

#[test]
fn the_own_certificate_is_renewed_before_it_expires_by_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let tls = own(dir.path());
    let (first, now) = (shown(&tls), clock::now());
    let facts = x509::Facts::of(&first[0]).unwrap();
    assert!((390 * DAY_MS..=397 * DAY_MS).contains(&facts.not_after.since(now)));
    assert!(x509::Facts::of(&first[1]).unwrap().not_after.since(now) > 3_600 * DAY_MS);
    tls.look(now.plus_millis(360 * DAY_MS));
    assert_eq!(shown(&tls), first, "it is good for another month");
    let late = now.plus_millis(370 * DAY_MS);
    tls.look(late);
    let second = shown(&tls);
    assert_ne!(second[0], first[0]);
    assert_eq!(second[1], first[1]);
    assert!(x509::Facts::of(&second[0]).unwrap().not_after.since(late) > 390 * DAY_MS);
}

#[test]
fn a_machine_that_has_other_names_gets_another_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let mut tls = own(dir.path());
    let first = shown(&tls);
    tls.listen = SocketAddr::from(([192, 0, 2, 7], 8470));
    tls.look(clock::now());
    let second = shown(&tls);
    assert_ne!(second, first);
    assert!(x509::Facts::of(&second[0]).unwrap().addresses.contains(&[192, 0, 2, 7].into()));
}

fn give(dir: &std::path::Path, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(dir.join("cert.pem"), pem::certificate(certificate.der())).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

fn given(dir: &std::path::Path) -> Tls {
    let mut config = ServerConfig::new(dir);
    config.tls = Some(TlsConfig::Given { cert: dir.join("cert.pem"), key: dir.join("key.pem") });
    Tls::start(&config, loopback()).unwrap().unwrap()
}

#[test]
fn a_given_certificate_is_read_again_and_a_broken_one_does_not_take_its_place() {
    let dir = tempfile::tempdir().unwrap();
    give(dir.path(), &["ecs.example"]);
    let tls = given(dir.path());
    let first = shown(&tls);
    fs::write(dir.path().join("cert.pem"), "half a fi").unwrap();
    tls.look(clock::now());
    assert_eq!(shown(&tls), first);
    give(dir.path(), &["ecs.example"]);
    tls.look(clock::now());
    assert_ne!(shown(&tls), first);
}

#[test]
fn this_machine_calls_a_given_certificate_by_a_name_in_it() {
    let dir = tempfile::tempdir().unwrap();
    for (names, host) in [
        (&["ecs.example", "127.0.0.1"][..], "127.0.0.1"),
        (&["ecs.example", "localhost"], "localhost"),
        (&["*.example", "ecs.example"], "ecs.example"),
        (&["2001:db8::7"], "[2001:db8::7]"),
    ] {
        give(dir.path(), names);
        assert_eq!(given(dir.path()).local_host(), host, "{names:?}");
    }
}

#[test]
fn a_fingerprint_is_what_the_usual_tools_print() {
    assert_eq!(pem::fingerprint(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let pem = pem::certificate(&[7; 100]);
    assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
}
