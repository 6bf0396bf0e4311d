//! Clients: containerd's images ([`images`]), containerd's event service ([`events`]), and the Task
//! service of a shim as containerd calls it ([`task_client`]).

pub mod events;
pub mod images;
mod messages;
pub mod task_client;
