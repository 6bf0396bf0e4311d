//! containerd's services for sandboxes, which `ctr sandboxes run` of containerd 2.3 calls: records and the controller of shims.
//!
//! The messages are written by hand from `sandbox.proto`; the numbers and names are its.

use std::path::Path;

use anyhow::Result;
use prost::Message;

use crate::grpc::Client;

const STORE: &str = "containerd.services.sandbox.v1.Store";
const CONTROLLER: &str = "containerd.services.sandbox.v1.Controller";

/// The controller whose sandboxes shims make.
const SHIM: &str = "shim";

/// The name under which containerd registers the spec of a container, and with it that of a sandbox.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Runtime {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    runtime: Option<Runtime>,
    #[prost(message, optional, tag = "3")]
    spec: Option<Any>,
    #[prost(string, tag = "10")]
    sandboxer: String,
}

/// A request of the store that has a whole sandbox.
#[derive(Clone, PartialEq, Message)]
struct StoreRequest {
    #[prost(message, optional, tag = "1")]
    sandbox: Option<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct IdRequest {
    #[prost(string, tag = "1")]
    sandbox_id: String,
    #[prost(string, tag = "10")]
    sandboxer: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateRequest {
    #[prost(string, tag = "1")]
    sandbox_id: String,
    #[prost(message, optional, tag = "6")]
    sandbox: Option<Sandbox>,
    #[prost(string, tag = "10")]
    sandboxer: String,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, Message)]
struct Done {}

#[derive(Clone, PartialEq, Message)]
struct Started {
    #[prost(uint32, tag = "2")]
    pid: u32,
}

/// A client of the services.
#[derive(Debug)]
pub struct Sandboxes {
    client: Client,
}

impl Sandboxes {
    /// A client of the containerd at this gRPC socket, in one of its namespaces.
    pub fn new(socket: &Path, namespace: &str) -> Result<Self> {
        Ok(Self { client: Client::new(socket, Some(namespace))? })
    }

    /// Makes the record of a sandbox and creates it, with this `config.json`.
    pub fn create(&self, id: &str, runtime: &str, config: &str) -> Result<()> {
        let sandbox = Sandbox {
            sandbox_id: id.to_owned(),
            runtime: Some(Runtime { name: runtime.to_owned() }),
            spec: Some(Any { type_url: SPEC.to_owned(), value: config.as_bytes().to_vec() }),
            sandboxer: SHIM.to_owned(),
        };
        let request = StoreRequest { sandbox: Some(sandbox.clone()) };
        let Done {} = self.client.call(STORE, "Create", request)?;
        let request = CreateRequest {
            sandbox_id: id.to_owned(),
            sandbox: Some(sandbox),
            sandboxer: SHIM.to_owned(),
        };
        let Done {} = self.client.call(CONTROLLER, "Create", request)?;
        Ok(())
    }

    /// Starts a sandbox; gives its pid.
    pub fn start(&self, id: &str) -> Result<u32> {
        let Started { pid } = self.client.call(CONTROLLER, "Start", of(id))?;
        Ok(pid)
    }

    /// Ends a sandbox and deletes its record.
    pub fn remove(&self, id: &str) -> Result<()> {
        let Done {} = self.client.call(CONTROLLER, "Shutdown", of(id))?;
        self.forget(id)
    }

    /// Deletes the record of a sandbox, and nothing else.
    pub fn forget(&self, id: &str) -> Result<()> {
        let Done {} = self.client.call(STORE, "Delete", of(id))?;
        Ok(())
    }
}

fn of(id: &str) -> IdRequest {
    IdRequest { sandbox_id: id.to_owned(), sandboxer: SHIM.to_owned() }
}
