//! Clients of containerd: its images ([`images`]), its events ([`events`]), and its side of the Task
//! service ([`task_client`]).

pub mod events;
pub mod images;
mod messages;
pub mod task_client;
