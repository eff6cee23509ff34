//! What a server has to know of a certificate that it shows: until when it is good, for which names, and whose key it
//! holds. Whether it is genuine is for its clients to judge; so this reads the few fields and checks nothing.

use std::net::IpAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use longshore_api::Timestamp;

/// The facts of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    pub(super) not_after: Timestamp,
    /// DNS names, wildcards among them.
    pub(super) names: Vec<&'a str>,
    pub(super) addresses: Vec<IpAddr>,
    /// The whole SubjectPublicKeyInfo.
    pub(super) public_key: &'a [u8],
}

// Tags of DER.
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, of the version.
const VERSION: u8 = 0xa0;
/// `[3]`, of the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[2]` and `[7]` of a GeneralName.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// 2.5.29.17, subjectAltName.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl<'a> Facts<'a> {
    /// Reads a certificate; nothing if it is none.
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut certificate = Der(Der(certificate).take(SEQUENCE)?);
        let mut fields = Der(certificate.take(SEQUENCE)?);
        if fields.peek() == Some(VERSION) {
            fields.next()?;
        }
        for _before_validity in ["serial number", "signature algorithm", "issuer"] {
            fields.next()?;
        }
        let mut validity = Der(fields.take(SEQUENCE)?);
        validity.next()?;
        let not_after = time(validity.next()?)?;
        fields.next()?;
        let public_key = fields.whole(SEQUENCE)?;
        let mut facts = Self { not_after, names: Vec::new(), addresses: Vec::new(), public_key };
        while let Some((tag, content)) = fields.next() {
            if tag == EXTENSIONS {
                facts.read_extensions(content);
            }
        }
        Some(facts)
    }

    fn read_extensions(&mut self, extensions: &'a [u8]) -> Option<()> {
        let mut extensions = Der(Der(extensions).take(SEQUENCE)?);
        while let Some((SEQUENCE, extension)) = extensions.next() {
            let mut extension = Der(extension);
            if extension.take(OBJECT_ID)? != SUBJECT_ALT_NAME {
                continue;
            }
            while let Some((tag, value)) = extension.next() {
                if tag == OCTET_STRING {
                    self.read_names(value);
                }
            }
        }
        Some(())
    }

    fn read_names(&mut self, value: &'a [u8]) -> Option<()> {
        let mut names = Der(Der(value).take(SEQUENCE)?);
        while let Some((tag, name)) = names.next() {
            match tag {
                DNS_NAME => self.names.extend(std::str::from_utf8(name).ok()),
                IP_ADDRESS => self.addresses.extend(address(name)),
                _ => {}
            }
        }
        Some(())
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// `YYMMDDHHMMSSZ` of the years 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time((tag, content): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let number = |text: &str| text.parse::<i16>().ok();
    let (year, rest) = match tag {
        UTC_TIME => {
            let year = number(text.get(..2)?)?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (number(text.get(..4)?)?, text.get(4..)?),
        _ => return None,
    };
    let mut parts = [0_i8; 5];
    for (index, part) in parts.iter_mut().enumerate() {
        *part = rest.get(2 * index..2 * index + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = parts;
    let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some(Timestamp::from_millis(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

/// What is left to read of DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Tag and content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Up to four bytes of length: more than any certificate has.
            0x81..=0x84 => {
                let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must be of this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The next value with its tag and length.
    fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.take(tag)?;
        before.get(..before.len() - self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_certificate_tells_its_end_its_names_and_its_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["ecs.example", "*.ecs.example", "192.0.2.7", "2001:db8::7"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        for (year, millis) in [(2049, 2_493_072_000_000), (2050, 2_524_608_000_000)] {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&key).unwrap();
            let facts = Facts::of(certificate.der()).unwrap();
            assert_eq!(facts.not_after, Timestamp::from_millis(millis), "{year}");
            assert_eq!(facts.names, ["ecs.example", "*.ecs.example"]);
            let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, ["192.0.2.7", "2001:db8::7"]);
            assert_eq!(facts.public_key, rcgen::PublicKeyData::subject_public_key_info(&key));
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, millis) in [
            (UTC_TIME, "700101000001Z", Some(1_000)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999_000)),
            (GENERALIZED_TIME, "19700101000002Z", Some(2_000)),
            (UTC_TIME, "700101000001", None),
            (UTC_TIME, "701301000001Z", None),
            (GENERALIZED_TIME, "1970é101000002Z", None),
            (OCTET_STRING, "700101000001Z", None),
        ] {
            assert_eq!(time((tag, text.as_bytes())).map(Timestamp::as_millis), millis, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_panic(bytes: Vec<u8>) {
            let _ = Facts::of(&bytes);
        }

        #[test]
        fn a_damaged_certificate_does_not_either(at in 0_usize..400, byte: u8) {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(["a".to_owned()]).unwrap().self_signed(&key).unwrap();
            let mut bytes = certificate.der().to_vec();
            if let Some(damaged) = bytes.get_mut(at) {
                *damaged = byte;
            }
            let _ = Facts::of(&bytes);
        }
    }
}
