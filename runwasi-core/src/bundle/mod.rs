//! A container's bundle: `config.json` read once ([`config`]), its standard streams ([`stdio`]), its
//! processes ([`process`]), its hooks ([`hooks`]) and the directories where bundles may lie
//! ([`roots`]).

pub mod cgroups_path;
pub mod config;
pub mod hooks;
pub mod process;
pub mod resources;
pub mod roots;
pub mod stdio;
