//! A container's bundle: `config.json` read once ([`config`]), its root file system ([`rootfs`]), its standard
//! streams ([`stdio`]), its processes ([`process`]), its hooks ([`hooks`]) and where bundles may lie ([`roots`]). Used by
//! `bootstrap` for grouping and by `container` to prepare an instance.

pub mod cgroups_path;
pub mod config;
pub mod hooks;
mod mounts;
pub mod process;
pub mod resources;
pub mod rootfs;
pub mod roots;
pub mod stdio;
