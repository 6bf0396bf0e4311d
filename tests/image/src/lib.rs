//! Writes OCI image-layout tars that `ctr image import` reads. Called by the binary `oci-image` (and through it by
//! `scripts/guests`) and by tests that need an image of their own.
//!
//! The way of an image, in the order of the modules:
//! - [`cli`]: the binary's arguments become an [`ImageBuilder`];
//! - [`files`]: the files of a plain image, their directories, and the layer tar made of them;
//! - [`image`]: the builder; knows the config and layers of a plain image and of a wasm OCI image;
//! - [`layout`]: blobs, manifest and index, named by digest, in one tar.
//!
//! The same input gives the same bytes: no clock, no host names, no owner, no hash order enters a tar.

pub mod cli;
pub mod files;
pub mod image;
pub mod layout;

pub use image::{ImageBuilder, WasmForm, WasmLayer};
