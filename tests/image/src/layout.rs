//! The OCI image layout: content-addressed blobs, a manifest and an index that names the image, in one tar.
//! Called by [`crate::ImageBuilder`].

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use oci_spec::image::{
    Descriptor, DescriptorBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Platform, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// A blob that is not yet in a layout, with the media type it gets in the manifest.
#[derive(Clone, Debug)]
pub struct Blob {
    /// How the manifest describes it.
    pub media_type: MediaType,
    /// Its bytes, uncompressed: these tars are read once, on the machine that wrote them.
    pub content: Vec<u8>,
    /// What the manifest says about it.
    pub annotations: HashMap<String, String>,
}

impl Blob {
    /// One without annotations.
    pub fn new(media_type: MediaType, content: Vec<u8>) -> Self {
        Self { media_type, content, annotations: HashMap::new() }
    }
}

/// Everything the layout's tar is made from.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Full reference, `docker.io/library/wasmtest:latest`: containerd stores the image under exactly this name.
    pub name: String,
    /// What the index says the image is for; `ctr image import` skips other platforms than its host's.
    pub platform: Platform,
    /// The image's config.
    pub config: Blob,
    /// Lowest first.
    pub layers: Vec<Blob>,
    /// Whether the name stands for an index in which the manifest is, rather than for the manifest.
    pub indexed: bool,
}

impl Layout {
    /// The whole tar.
    pub fn to_tar(&self) -> Result<Vec<u8>> {
        let config = describe(&self.config)?;
        let layers = self.layers.iter().map(describe).collect::<Result<Vec<_>>>()?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .build()?;
        let manifest = Blob::new(MediaType::ImageManifest, to_json(&manifest)?);
        let mut named = describe(&manifest)?;
        named.set_platform(Some(self.platform.clone()));
        let mut tops = vec![manifest];
        if self.indexed {
            let index = Blob::new(MediaType::ImageIndex, index_of(named)?);
            named = describe(&index)?;
            tops.push(index);
        }
        let marker = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;

        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "oci-layout", &to_json(&marker)?)?;
        // Of equal layers one blob.
        let mut written = BTreeSet::new();
        for blob in [&self.config].into_iter().chain(&self.layers).chain(&tops) {
            let path = format!("blobs/sha256/{}", hex_digest(&blob.content));
            if written.insert(path.clone()) {
                append(&mut tar, &path, &blob.content)?;
            }
        }
        append(&mut tar, "index.json", &index_of(self.name(named))?)?;
        tar.into_inner().context("finish the image tar")
    }

    /// Both names: containerd takes its own annotation as it is and falls back to the standard one, which others read.
    fn name(&self, mut top: Descriptor) -> Descriptor {
        let tag = match self.name.rsplit_once(':') {
            Some((_, tag)) if !tag.contains('/') => tag,
            _ => "latest",
        };
        top.set_annotations(Some(HashMap::from([
            ("io.containerd.image.name".to_owned(), self.name.clone()),
            ("org.opencontainers.image.ref.name".to_owned(), tag.to_owned()),
        ])));
        top
    }
}

fn index_of(only: Descriptor) -> Result<Vec<u8>> {
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([only])
        .build()?;
    to_json(&index)
}

/// Writes under a temporary name first: who reads the file while it is written, or after a crash, sees the old one.
pub fn write_file(output: &Path, content: &[u8]) -> Result<()> {
    let mut name = output
        .file_name()
        .with_context(|| format!("output {} does not name a file", output.display()))?
        .to_owned();
    name.push(".part");
    let part = output.with_file_name(name);
    let written = fs::File::create(&part)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&part, output));
    if written.is_err() {
        // The first error is the one to report; the file may not even exist.
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("write {}", output.display()))
}

/// `sha256:` and the hexadecimal digest.
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex_digest(content))
}

/// Deterministic JSON: keys sorted, since oci-spec keeps annotations in a `HashMap`.
pub fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

fn describe(blob: &Blob) -> Result<Descriptor> {
    let digest = Sha256Digest::from_str(&hex_digest(&blob.content))?;
    let mut descriptor = DescriptorBuilder::default()
        .media_type(blob.media_type.clone())
        .digest(digest)
        .size(blob.content.len() as u64)
        .build()?;
    if !blob.annotations.is_empty() {
        descriptor.set_annotations(Some(blob.annotations.clone()));
    }
    Ok(descriptor)
}

fn hex_digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content)
        .with_context(|| format!("add {path} to the image tar"))
}
