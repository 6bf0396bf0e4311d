//! Native containers: programs that are no wasm, which containerd's own shim for runc runs.
//!
//! ```text
//! containerd ─ Task ─▶ our server ─ Task ─▶ containerd-shim-runc-v2 ─▶ runc ─▶ the container
//!      ▲                                           │
//!      └────────────────── events ─────────────────┘
//! ```
//!
//! The *delegate* is that shim: one for all native containers of a sandbox, started with the first
//! of them and ended after the last. It gets each request unchanged and tells containerd the events
//! itself. It has a directory of its own, and not a bundle: the group in a bundle's `config.json`
//! would lead it to the socket of our own server.
//!
//! | file | one thing |
//! |---|---|
//! | `setting` | the setting `native-runtime` |
//! | `error` | why there is no native container |
//! | `detect` | which programs are native |
//! | `launcher` | the command lines of the delegate's program |
//! | `oom_score` | the OOM score of the delegate |
//! | `delegate` | the running delegate, from its start to its end |
//! | `orphan` | a container whose server was killed |
//! | `process` | the processes of a delegate, found by its directory |
//! | `socket` | the delegate's socket, as far as it is looked at from outside |
//! | `record` | the file in a bundle by which `delete` finds the delegate after our server's death |

pub(crate) mod delegate;
pub(crate) mod detect;
pub mod error;
pub(crate) mod launcher;
pub(crate) mod oom_score;
pub(crate) mod orphan;
#[cfg(test)]
pub(crate) mod played;
mod process;
pub(crate) mod record;
pub mod setting;
mod socket;

use self::setting::NativeRuntime;

/// The setting of a sandbox's server, and the containerd that the delegate tells its events.
#[derive(Clone, Debug)]
pub struct NativeHost {
    /// The program that runs native containers.
    pub runtime: NativeRuntime,
    /// True if runtime options cannot choose another program.
    pub fixed: bool,
    /// True if the server is a shim and has its OOM score, one above containerd's: its delegates
    /// get the same. Those of another server get what a shim has.
    pub is_shim: bool,
    /// containerd's gRPC socket.
    pub grpc_address: String,
    /// containerd's ttrpc socket, where it takes events.
    pub ttrpc_address: String,
}

impl NativeHost {
    /// For a sandbox without native containers.
    pub fn off() -> Self {
        Self {
            runtime: NativeRuntime::off(),
            fixed: true,
            is_shim: false,
            grpc_address: String::new(),
            ttrpc_address: String::new(),
        }
    }
}
