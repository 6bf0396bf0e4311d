//! A container's bundle: `config.json` read once ([`config`]), its root file system ([`rootfs`]) and its standard
//! streams ([`stdio`]). Used by `bootstrap` for grouping and by `container` to prepare an instance.

pub mod config;
pub mod rootfs;
pub mod stdio;
