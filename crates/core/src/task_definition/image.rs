//! Image references: `[host[:port]/]path[:tag][@digest]`, as Docker reads them.

use super::limits;

/// A well-formed image reference, cut into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageReference<'a> {
    /// The registry; `None` is Docker's default one.
    pub(crate) registry: Option<&'a str>,
    /// The repository's path in the registry.
    pub(crate) path: &'a str,
    /// The tag, if one is given.
    pub(crate) tag: Option<&'a str>,
    /// The digest, if one is given, with its algorithm.
    pub(crate) digest: Option<&'a str>,
}

/// The account and region of an ECR registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EcrRegistry<'a> {
    /// The twelve digits of the account.
    pub(crate) account: &'a str,
    /// The region.
    pub(crate) region: &'a str,
}

impl<'a> ImageReference<'a> {
    /// Reads a reference; the error says what is wrong with it.
    pub(crate) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if rest.chars().count() > limits::IMAGE {
            return Err("it is longer than 255 characters");
        }
        if let Some(digest) = digest {
            check_digest(digest)?;
        }
        let path_at = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path_at..].split_once(':') {
            Some((last, tag)) => (&rest[..path_at + last.len()], Some(tag)),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (registry, path) = split_registry(name);
        if let Some(registry) = registry {
            check_registry(registry)?;
        }
        if path.is_empty() {
            return Err("the repository is missing");
        }
        if !path.split('/').all(is_path_component) {
            return Err("a repository has lower-case letters and digits, separated by '/', '.', '-', '_' or '__'");
        }
        if registry.is_none() && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("a repository cannot be named like an image id");
        }
        Ok(Self { registry, path, tag, digest })
    }

    /// The ECR registry that holds the image, if one does.
    pub(crate) fn ecr(&self) -> Option<EcrRegistry<'a>> {
        let (account, rest) = self.registry?.split_once(".dkr.ecr")?;
        let rest = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?;
        let region = rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))?;
        let well_formed = account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && !region.is_empty()
            && !region.contains('.');
        well_formed.then_some(EcrRegistry { account, region })
    }
}

/// Docker takes the first component for a registry only if it looks like a host; otherwise it is part of the path.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, path))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), path)
        }
        _ => (None, name),
    }
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    const BAD: &str = "its registry is not a host with an optional port";
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| BAD)?;
            return match port.strip_prefix(':') {
                Some(port) if is_port(port) => Ok(()),
                None if port.is_empty() => Ok(()),
                _ => Err(BAD),
            };
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let host_ok = host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    if host_ok && port.is_none_or(is_port) { Ok(()) } else { Err(BAD) }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `[a-z0-9]+` joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let mut separator = String::new();
    let mut after_name = false;
    for c in component.chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            let joined = separator.is_empty()
                || matches!(separator.as_str(), "." | "_" | "__")
                || separator.bytes().all(|b| b == b'-');
            if !joined || (!after_name && !separator.is_empty()) {
                return false;
            }
            separator.clear();
            after_name = true;
        } else if matches!(c, '.' | '_' | '-') {
            separator.push(c);
        } else {
            return false;
        }
    }
    after_name && separator.is_empty()
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    let ok = bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-');
    if ok && tag.len() <= 128 {
        Ok(())
    } else {
        Err("a tag has up to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'")
    }
}

fn check_digest(digest: &str) -> Result<(), &'static str> {
    let hash = digest.strip_prefix("sha256:").unwrap_or_default();
    if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(())
    } else {
        Err("a digest is 'sha256:' and 64 hexadecimal digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:94afd1f2e64d908bc90dbca0035a5b567eb6a2d1b1c9b0c0a9e2d3f405162738";

    #[test]
    fn well_formed_references() {
        let digested = format!("quay.io/assemblyline/ubuntu@{DIGEST}");
        let both = format!("busybox:1.36@{DIGEST}");
        for (text, registry, path, tag) in [
            ("busybox", None, "busybox", None),
            ("amazon/amazon-ecs-agent:latest", None, "amazon/amazon-ecs-agent", Some("latest")),
            ("localhost/app", Some("localhost"), "app", None),
            ("localhost:5000/a/b__c/d-e--f.g:V_1.2-x", Some("localhost:5000"), "a/b__c/d-e--f.g", Some("V_1.2-x")),
            ("Registry/app", Some("Registry"), "app", None),
            ("[2001:db8::1]:5000/app", Some("[2001:db8::1]:5000"), "app", None),
            (digested.as_str(), Some("quay.io"), "assemblyline/ubuntu", None),
            (both.as_str(), None, "busybox", Some("1.36")),
        ] {
            let image = ImageReference::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((image.registry, image.path, image.tag), (registry, path, tag), "{text}");
        }
    }

    #[test]
    fn malformed_references() {
        let long = "a".repeat(256);
        let id = "ab".repeat(32);
        let tag = format!("app:{}", "a".repeat(129));
        for text in [
            "",
            "/",
            ":latest",
            "@",
            "App",
            "app:",
            "app:-x",
            "app:.x",
            "app: x",
            "a b",
            "a//b",
            "/a",
            "a/",
            "a_",
            "a___b",
            "a..b",
            "-a",
            "a.-b",
            "app@",
            "app@sha256:12",
            "app@md5:94afd1f2",
            "exa_mple.com/app",
            "host:port/app",
            "-host.com/app",
            "[::g]/app",
            "[::1]x/app",
            "app#1",
            "ünïcode",
            "app:ü",
            &long,
            &id,
            &tag,
            "https://host/app",
        ] {
            assert!(ImageReference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_length_of_a_digest_does_not_count() {
        assert!(ImageReference::parse(&format!("{}@{DIGEST}", "a".repeat(255))).is_ok());
        assert!(ImageReference::parse(&"a".repeat(255)).is_ok());
    }

    #[test]
    fn ecr_registries() {
        let ecr = |text| ImageReference::parse(text).ok().and_then(|image| image.ecr());
        let found = EcrRegistry { account: "012345678910", region: "eu-west-1" };
        assert_eq!(ecr("012345678910.dkr.ecr.eu-west-1.amazonaws.com/app:1"), Some(found));
        assert_eq!(ecr("012345678910.dkr.ecr-fips.eu-west-1.amazonaws.com/app"), Some(found));
        assert_eq!(ecr("12345.dkr.ecr.eu-west-1.amazonaws.com/app"), None);
        assert_eq!(ecr("012345678910.dkr.ecr.eu-west-1.example.com/app"), None);
        assert_eq!(ecr("busybox"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = ImageReference::parse(&text);
        }

        #[test]
        fn parts_of_a_reference_put_together_are_the_reference(
            registry in prop::option::of("[a-z]{1,5}(\\.[a-z]{1,5}){1,2}(:[0-9]{1,4})?"),
            // A first component with a dot would be a registry.
            path in "[a-z0-9]{1,6}((_|__|-{1,3})[a-z0-9]{1,6}){0,2}(/[a-z0-9]{1,6}(\\.[a-z0-9]{1,6})?){0,2}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}"),
            digest in any::<bool>(),
        ) {
            let mut text = String::new();
            if let Some(registry) = &registry { text += &format!("{registry}/"); }
            text += &path;
            if let Some(tag) = &tag { text += &format!(":{tag}"); }
            if digest { text += &format!("@{DIGEST}"); }
            let image = ImageReference::parse(&text).map_err(TestCaseError::fail)?;
            prop_assert_eq!(image.registry, registry.as_deref());
            prop_assert_eq!(image.path, path.as_str());
            prop_assert_eq!(image.tag, tag.as_deref());
            prop_assert_eq!(image.digest, digest.then_some(DIGEST));
        }
    }
}
