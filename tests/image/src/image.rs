//! The builder: what a plain Linux image and a wasm OCI image consist of. Called by [`crate::cli`] and by tests.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::image::{
    Arch, Config, ConfigBuilder, History, HistoryBuilder, ImageConfigurationBuilder, MediaType, Os,
    Platform, PlatformBuilder, RootFsBuilder,
};
use serde_json::json;

use crate::files::Files;
use crate::layout::{self, Blob, Layout};

/// Config of a wasm artifact in the CNCF's "Wasm OCI Artifact layout".
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// What the layers of wasm images, bare modules or components, are called: by the CNCF's layout, by its predecessor, and by the
/// first component registries.
pub const WASM_LAYERS: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
/// The annotation that names a layer among several.
const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

/// Both kinds exist: containerd only takes a command and environment from a config of the standard media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmForm {
    /// The CNCF layout: a wasm config that lists the layers. Its entrypoint must come from who runs it.
    Artifact,
    /// A standard image config (entrypoint, environment) above wasm layers.
    ImageConfig,
    /// The empty config, as general tools for artifacts write it. It is the same for all artifacts.
    EmptyConfig,
}

/// One module or component of a wasm image.
#[derive(Clone, Debug)]
pub struct WasmLayer {
    /// The file it is.
    pub file: PathBuf,
    /// What the image calls it.
    pub title: String,
    /// One of [`WASM_LAYERS`], for the manifest.
    pub media_type: String,
}

/// Collects what an image is made of, then writes it.
///
/// ```
/// # fn main() -> anyhow::Result<()> {
/// let tar = runwasi_image::ImageBuilder::new("docker.io/library/hello:latest")
///     .entrypoint(["/hello.wasm"])
///     .file("Cargo.toml".as_ref(), "/hello.wasm", 0o755)?
///     .directory("/tmp", 0o1777)?
///     .linux_tar()?;
/// # assert!(!tar.is_empty()); Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    name: String,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    workdir: Option<String>,
    user: Option<String>,
    files: Files,
    indexed: bool,
}

impl ImageBuilder {
    /// `name` is the full reference that containerd lists the image under.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: Vec::new(),
            workdir: None,
            user: None,
            files: Files::default(),
            indexed: false,
        }
    }

    /// Puts an index that names the platform around the manifest, as images for several platforms have it.
    pub fn indexed(mut self) -> Self {
        self.indexed = true;
        self
    }

    /// Adds words to the entrypoint.
    pub fn entrypoint(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.entrypoint.extend(words.into_iter().map(Into::into));
        self
    }

    /// Adds words to the default arguments.
    pub fn cmd(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cmd.extend(words.into_iter().map(Into::into));
        self
    }

    /// Adds variables, each `NAME=VALUE`.
    pub fn env(mut self, variables: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.env.extend(variables.into_iter().map(Into::into));
        self
    }

    /// Sets the working directory.
    pub fn workdir(mut self, directory: impl Into<String>) -> Self {
        self.workdir = Some(directory.into());
        self
    }

    /// Sets the user, in the image config's form (`uid`, `uid:gid` or names).
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Adds a file, and its directories.
    pub fn file(mut self, source: &Path, destination: &str, mode: u32) -> Result<Self> {
        self.files.add_file(source, destination, mode)?;
        Ok(self)
    }

    /// Adds a directory.
    pub fn directory(mut self, destination: &str, mode: u32) -> Result<Self> {
        self.files.add_directory(destination, mode)?;
        Ok(self)
    }

    /// The tar of a plain Linux image for this machine's architecture.
    pub fn linux_tar(&self) -> Result<Vec<u8>> {
        self.check()?;
        let layer = Blob::new(MediaType::ImageLayer, self.files.to_tar()?);
        let platform = platform(Arch::default(), Os::Linux)?;
        // The layer is uncompressed, so its digest is also its diff id.
        let config = self.image_config(&platform, vec![layout::digest(&layer.content)], &[])?;
        self.layout(platform, config, vec![layer])
    }

    /// The tar of a wasm OCI image with these layers.
    pub fn wasm_tar(&self, layers: &[WasmLayer], form: WasmForm) -> Result<Vec<u8>> {
        self.check()?;
        let blobs = layers.iter().map(wasm_blob).collect::<Result<Vec<_>>>()?;
        // With one component among them the image needs what components need.
        let os =
            blobs.iter().map(|(os, _)| *os).max().context("a wasm image has at least one layer")?;
        let layers: Vec<_> = blobs.into_iter().map(|(_, blob)| blob).collect();
        let platform = platform(Arch::Wasm, Os::Other(os.to_owned()))?;
        let config = match form {
            // containerd compares these with the layers it can unpack, and of those there are none.
            WasmForm::ImageConfig => self.image_config(&platform, Vec::new(), &layers)?,
            WasmForm::Artifact | WasmForm::EmptyConfig if self.has_process() => {
                bail!(
                    "{}: a wasm artifact's config has no place for entrypoint, cmd, env, workdir or user",
                    self.name
                )
            }
            WasmForm::EmptyConfig => {
                Blob::new(MediaType::Other(EMPTY_CONFIG.to_owned()), b"{}".to_vec())
            }
            // The optional member "component" is left out: it would repeat what the layer itself says.
            WasmForm::Artifact => {
                let digests: Vec<_> =
                    layers.iter().map(|layer| layout::digest(&layer.content)).collect();
                let config = json!({"architecture": "wasm", "os": os, "layerDigests": digests});
                Blob::new(MediaType::Other(WASM_CONFIG.to_owned()), layout::to_json(&config)?)
            }
        };
        self.layout(platform, config, layers)
    }

    fn layout(&self, platform: Platform, config: Blob, layers: Vec<Blob>) -> Result<Vec<u8>> {
        Layout { name: self.name.clone(), platform, config, layers, indexed: self.indexed }.to_tar()
    }

    fn has_process(&self) -> bool {
        let words = [&self.entrypoint, &self.cmd, &self.env];
        words.iter().any(|list| !list.is_empty()) || self.workdir.is_some() || self.user.is_some()
    }

    /// What containerd would only refuse when the image is run.
    fn check(&self) -> Result<()> {
        if !self.name.contains('/') || self.name.contains(char::is_whitespace) {
            bail!(
                "image name {:?} is not a full reference such as docker.io/library/wasmtest:latest",
                self.name
            );
        }
        for variable in &self.env {
            if variable.find('=').is_none_or(|at| at == 0) {
                bail!("environment variable {variable:?} is not NAME=VALUE");
            }
        }
        if let Some(directory) = self.workdir.as_deref().filter(|d| !d.starts_with('/')) {
            bail!("working directory {directory:?} is not an absolute path");
        }
        Ok(())
    }

    /// The standard image config. Wasm layers, which cannot be unpacked, are in its history.
    fn image_config(
        &self,
        platform: &Platform,
        diff_ids: Vec<String>,
        wasm: &[Blob],
    ) -> Result<Blob> {
        let config = ImageConfigurationBuilder::default()
            .architecture(platform.architecture().clone())
            .os(platform.os().clone())
            .config(self.process_config()?)
            .history(wasm.iter().map(history).collect::<Result<Vec<_>>>()?)
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
            .build()?;
        Ok(Blob::new(MediaType::ImageConfig, layout::to_json(&config)?))
    }

    fn process_config(&self) -> Result<Config> {
        let mut config = ConfigBuilder::default();
        for (words, set) in [
            (&self.entrypoint, ConfigBuilder::entrypoint as fn(_, Vec<String>) -> _),
            (&self.cmd, ConfigBuilder::cmd),
            (&self.env, ConfigBuilder::env),
        ] {
            // An empty list is not "none": it would be written, and some readers take it for an empty command.
            if !words.is_empty() {
                config = set(config, words.clone());
            }
        }
        if let Some(directory) = &self.workdir {
            config = config.working_dir(directory.clone());
        }
        if let Some(user) = &self.user {
            config = config.user(user.clone());
        }
        Ok(config.build()?)
    }
}

/// The entry of a wasm layer in the history of a config.
// The CRI knows images by their configs: without it two modules would be one image.
fn history(layer: &Blob) -> Result<History> {
    let by = format!("wasm layer {}", layout::digest(&layer.content));
    Ok(HistoryBuilder::default().created_by(by).empty_layer(true).build()?)
}

fn platform(architecture: Arch, os: Os) -> Result<Platform> {
    Ok(PlatformBuilder::default().architecture(architecture).os(os).build()?)
}

/// The platform's system and the layer.
fn wasm_blob(layer: &WasmLayer) -> Result<(&'static str, Blob)> {
    let WasmLayer { file, title, media_type } = layer;
    let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let os = wasm_os(&content).with_context(|| format!("{}", file.display()))?;
    if !WASM_LAYERS.contains(&media_type.as_str()) {
        bail!("layer type {media_type:?} is none of {}", WASM_LAYERS.join(", "));
    }
    let mut blob = Blob::new(MediaType::Other(media_type.clone()), content);
    blob.annotations = HashMap::from([(TITLE.to_owned(), title.clone())]);
    Ok((os, blob))
}

/// A binary's first eight bytes tell modules (WASI preview 1) and components (preview 2) apart.
fn wasm_os(content: &[u8]) -> Result<&'static str> {
    match content {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok("wasip1"),
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => Ok("wasip2"),
        _ => bail!("not a wasm binary"),
    }
}
