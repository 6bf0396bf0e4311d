//! A container's bundle: its `config.json` ([`config`]) as it is parsed (`spec`), its processes
//! ([`process`]), its hooks ([`hooks`]) and the directories that may contain bundles
//! ([`allowed_roots`]); the configuration of a pod without a pause container ([`pod`]) and the
//! bundles of containers that joined one (`joined`); the part that native containers need
//! (`program`) and what changes in it for their delegate (`native_config`).

pub mod allowed_roots;
pub mod cgroups_path;
pub mod config;
mod error;
pub mod hooks;
pub(crate) mod joined;
mod json;
pub mod mount_options;
pub mod mounts;
pub(crate) mod native_config;
pub mod pod;
pub mod process;
pub(crate) mod program;
pub mod resources;
mod spec;
pub mod sysctls;
