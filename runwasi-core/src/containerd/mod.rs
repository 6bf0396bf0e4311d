//! Clients: containerd's images ([`images`]), its records of sandboxes, its event service
//! ([`events`]), the Task service of a shim as containerd calls it ([`task_client`]), and that of
//! another shim, to which calls are forwarded (`shim_client`; for `delete` `blocking_shim_client`).
//! Connections of ttrpc are made by `connect`.

pub(crate) mod blocking_shim_client;
mod connect;
pub mod events;
pub mod images;
mod messages;
mod sandboxes;
pub(crate) mod shim_client;
pub mod task_client;
