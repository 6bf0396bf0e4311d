//! Components that answer HTTP on the real engine, through the real Task service and over real
//! sockets, without containerd. The guests are those that `scripts/guests` builds.

#[path = "http/fixture.rs"]
mod fixture;
#[path = "http/life.rs"]
mod life;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/messages.rs"]
mod messages;
#[path = "http/outgoing.rs"]
mod outgoing;
#[path = "http/protocol.rs"]
mod protocol;
#[path = "http/shared.rs"]
mod shared;
#[path = "http/world_p3.rs"]
mod world_p3;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
