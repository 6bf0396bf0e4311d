//! containerd's records of sandboxes (`containerd.services.sandbox.v1.Store`).

use async_trait::async_trait;
use prost::Message;
use tonic::{Code, Status};

use super::images::ImageClient;
use crate::{id::Id, sandbox::records::SandboxRecords};

const GET_SANDBOX: &str = "/containerd.services.sandbox.v1.Store/Get";

/// Request of `Store.Get`.
#[derive(Clone, PartialEq, Message)]
struct GetSandboxRequest {
    #[prost(string, tag = "1")]
    sandbox_id: String,
}

/// Response of `Store.Get`. Only its presence counts.
#[derive(Clone, PartialEq, Message)]
struct GetSandboxResponse {}

#[async_trait]
impl SandboxRecords for ImageClient {
    async fn has(&self, sandbox: &Id) -> Option<bool> {
        let what = format!("sandbox {sandbox}");
        let request = GetSandboxRequest { sandbox_id: sandbox.to_string() };
        let answer: Result<Result<GetSandboxResponse, Status>, _> =
            self.unary(GET_SANDBOX, &what, request).await;
        match answer {
            Ok(Ok(_)) => Some(true),
            Ok(Err(status)) if status.code() == Code::NotFound => Some(false),
            Ok(Err(status)) => {
                tracing::debug!(%sandbox, %status, "containerd does not tell of the sandbox");
                None
            }
            Err(error) => {
                tracing::debug!(%sandbox, %error, "containerd does not tell of the sandbox");
                None
            }
        }
    }
}
