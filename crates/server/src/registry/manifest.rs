//! Manifests: which kinds there are, and what each needs to be there.

use serde::Deserialize;

use super::name::Digest;
use super::refusal::Refusal;

/// The kinds that are taken: Docker's and OCI's, of one image and of one for several platforms.
const IMAGES: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"];
const INDEXES: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json"];

/// Layers of one image, or images of one index: Docker makes up to 127 layers.
const MAX_PARTS: usize = 1024;

/// What a manifest refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Its configuration and layers.
    pub(crate) blobs: Vec<Digest>,
    /// The manifests of an index.
    pub(crate) manifests: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    /// Where foreign layers lie: in the world, not here.
    #[serde(default)]
    urls: Vec<String>,
}

/// Reads a manifest of a kind.
pub(crate) fn parts(media_type: &str, bytes: &[u8]) -> Result<Parts, Refusal> {
    let (is_image, is_index) = (IMAGES.contains(&media_type), INDEXES.contains(&media_type));
    if !is_image && !is_index {
        return Err(Refusal::manifest_invalid("this kind of manifest is not taken: push with Docker 1.10 or later"));
    }
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| Refusal::manifest_invalid(error.to_string()))?;
    if document.schema_version != 2 || document.media_type.is_some_and(|own| own != media_type) {
        return Err(Refusal::manifest_invalid("the manifest is of another kind than the request says"));
    }
    if document.layers.len().max(document.manifests.len()) > MAX_PARTS {
        return Err(Refusal::manifest_invalid(format!("a manifest has at most {MAX_PARTS} parts")));
    }
    let digests = |descriptors: Vec<Descriptor>| {
        let here = descriptors.into_iter().filter(|descriptor| descriptor.urls.is_empty());
        here.map(|descriptor| Digest::parse(&descriptor.digest)).collect::<Result<Vec<_>, _>>()
    };
    if is_index {
        return Ok(Parts { blobs: Vec::new(), manifests: digests(document.manifests)? });
    }
    let config = document.config.ok_or_else(|| Refusal::manifest_invalid("the manifest has no config"))?;
    let mut blobs = vec![Digest::parse(&config.digest)?];
    blobs.extend(digests(document.layers)?);
    Ok(Parts { blobs, manifests: Vec::new() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(media_type: &str, value: serde_json::Value) -> Result<Parts, &'static str> {
        parts(media_type, value.to_string().as_bytes()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn what_a_manifest_needs_is_read_from_it() {
        let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
        let foreign = json!({"digest": Digest::of(b"elsewhere").as_str(), "urls": ["https://elsewhere"]});
        let image = json!({
            "schemaVersion": 2,
            "mediaType": IMAGES[0],
            "config": {"digest": config.as_str()},
            "layers": [{"digest": layer.as_str()}, foreign],
        });
        let expected = Parts { blobs: vec![config, layer.clone()], manifests: vec![] };
        assert_eq!(read(IMAGES[0], image.clone()), Ok(expected));
        assert_eq!(read(IMAGES[1], image), Err("MANIFEST_INVALID"));
        let index = json!({"schemaVersion": 2, "manifests": [{"digest": layer.as_str()}]});
        assert_eq!(read(INDEXES[1], index), Ok(Parts { blobs: vec![], manifests: vec![layer] }));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let no_config = json!({"schemaVersion": 2, "layers": []});
        assert_eq!(read(IMAGES[1], no_config), Err("MANIFEST_INVALID"));
        assert_eq!(read(IMAGES[1], json!({"schemaVersion": 1})), Err("MANIFEST_INVALID"));
        assert_eq!(
            read("application/vnd.docker.distribution.manifest.v1+prettyjws", json!({})),
            Err("MANIFEST_INVALID")
        );
        let bad = json!({"schemaVersion": 2, "config": {"digest": "../../etc/passwd"}});
        assert_eq!(read(IMAGES[1], bad), Err("DIGEST_INVALID"));
        let many = vec![json!({"digest": Digest::of(b"").as_str()}); MAX_PARTS + 1];
        assert_eq!(read(INDEXES[0], json!({"schemaVersion": 2, "manifests": many})), Err("MANIFEST_INVALID"));
    }
}
