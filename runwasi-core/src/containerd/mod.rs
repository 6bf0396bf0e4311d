//! Clients: containerd's images ([`images`]), its records of sandboxes, its event service
//! ([`events`]), and the Task service of a shim as containerd calls it ([`task_client`]).

pub mod events;
pub mod images;
mod messages;
mod sandboxes;
pub mod task_client;
