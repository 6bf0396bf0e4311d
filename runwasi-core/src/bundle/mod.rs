//! A container's bundle: `config.json` read once ([`config`]), its processes ([`process`]), its
//! hooks ([`hooks`]) and the directories where bundles may lie ([`allowed_roots`]).

pub mod allowed_roots;
pub mod cgroups_path;
pub mod config;
mod error;
pub mod hooks;
pub mod process;
pub mod resources;
