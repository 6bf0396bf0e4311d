//! containerd's images over its gRPC API: the services `Containers`, `Images` and `Content`.
//!
//! Every call connects anew and closes again: a container asks once in its life, and most never do, so a connection that is kept
//! would only cost. Nothing here waits without a limit.

use std::{fmt::Debug, future::Future, io, time::Duration};

use async_trait::async_trait;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::messages::{
    GetContainerRequest, GetContainerResponse, GetImageRequest, GetImageResponse,
    ReadContentRequest, ReadContentResponse,
};
use crate::{
    artifact::oci::{Images, blob::Blob, error::ImageError},
    digest::Digest,
    id::Id,
};

/// For connecting, for a record, and for each piece of a blob: milliseconds, unless containerd is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a whole blob.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// Largest message of an answer; what containerd sends at most by default.
const MAX_MESSAGE: usize = 16 << 20;

/// The header that names containerd's namespace.
const NAMESPACE: &str = "containerd-namespace";

const GET_CONTAINER: &str = "/containerd.services.containers.v1.Containers/Get";
const GET_IMAGE: &str = "/containerd.services.images.v1.Images/Get";
const READ_CONTENT: &str = "/containerd.services.content.v1.Content/Read";

/// The images of the containerd at one address, in one of its namespaces.
#[derive(Clone, Debug)]
pub struct ImageClient {
    address: String,
    namespace: Id,
}

impl ImageClient {
    /// For the containerd that serves gRPC at `address` (a path, with or without `unix://`).
    pub fn new(address: &str, namespace: &Id) -> Self {
        let address = address.strip_prefix("unix://").unwrap_or(address).to_owned();
        Self { address, namespace: namespace.clone() }
    }

    async fn unary<Q, A>(
        &self,
        path: &'static str,
        what: &str,
        request: Q,
    ) -> Result<Result<A, Status>, ImageError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut client = self.connect().await?;
            let codec = ProstCodec::<Q, A>::default();
            Ok(client.unary(self.request(request), PathAndQuery::from_static(path), codec).await)
        };
        let answer = self.within(PATIENCE, what, call).await??;
        Ok(answer.map(tonic::Response::into_inner))
    }

    async fn connect(&self) -> Result<Grpc<Channel>, ImageError> {
        let address = self.address.clone();
        let connector = service_fn(move |_: Uri| {
            let address = address.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(address).await?)) }
        });
        // HTTP wants a host, a unix socket has none.
        let connected =
            Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        let mut client = Grpc::new(connected.map_err(|error| self.unreachable(&error))?)
            .max_decoding_message_size(MAX_MESSAGE);
        client.ready().await.map_err(|error| self.unreachable(&error))?;
        Ok(client)
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        // An id always is a value of a header.
        if let Ok(namespace) = self.namespace.as_str().parse::<MetadataValue<Ascii>>() {
            request.metadata_mut().insert(NAMESPACE, namespace);
        }
        request
    }

    async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        call: impl Future<Output = T>,
    ) -> Result<T, ImageError> {
        let silent =
            |_| ImageError::Silent { address: self.address.clone(), what: what.to_owned(), limit };
        timeout(limit, call).await.map_err(silent)
    }

    /// The transport's error says little by itself ("transport error"): what it comes from is the reason.
    fn unreachable(&self, error: &dyn std::error::Error) -> ImageError {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        ImageError::Unreachable { address: self.address.clone(), reason: innermost.to_string() }
    }

    async fn pieces(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        let what = format!("content {}", blob.digest);
        let failed = |status: Status| match status.code() {
            Code::NotFound => ImageError::Missing { digest: blob.digest },
            _ => refused(&what, &status),
        };
        let request = self.request(ReadContentRequest { digest: blob.digest.to_string() });
        let opened = async {
            let mut client = self.connect().await?;
            let codec = ProstCodec::<_, ReadContentResponse>::default();
            Ok(client
                .server_streaming(request, PathAndQuery::from_static(READ_CONTENT), codec)
                .await)
        };
        let mut stream = self.within(PATIENCE, &what, opened).await??.map_err(failed)?.into_inner();
        let mut bytes = Vec::new();
        // Only as much as is read is ever touched; the caller has bounded the length.
        bytes.reserve_exact(usize::try_from(blob.bytes).unwrap_or(0));
        while let Some(piece) =
            self.within(PATIENCE, &what, stream.message()).await?.map_err(failed)?
        {
            let damaged = |reason| ImageError::Damaged { digest: blob.digest, reason };
            if u64::try_from(piece.offset) != Ok(bytes.len() as u64) {
                return Err(damaged(format!(
                    "a piece of it is for byte {} after {} bytes",
                    piece.offset,
                    bytes.len()
                )));
            }
            if (bytes.len() + piece.data.len()) as u64 > blob.bytes {
                return Err(damaged(format!("it is longer than {} bytes", blob.bytes)));
            }
            bytes.extend_from_slice(&piece.data);
        }
        Ok(bytes)
    }
}

#[async_trait]
impl Images for ImageClient {
    async fn of_container(&self, container: &Id) -> Result<String, ImageError> {
        let what = format!("container {container}");
        let request = GetContainerRequest { id: container.to_string() };
        let answer: Result<GetContainerResponse, Status> =
            self.unary(GET_CONTAINER, &what, request).await?;
        let image =
            answer.map_err(|status| refused(&what, &status))?.container.unwrap_or_default().image;
        if image.is_empty() { Err(ImageError::NoImage) } else { Ok(image) }
    }

    async fn target(&self, image: &str) -> Result<Blob, ImageError> {
        let what = format!("image {image}");
        let request = GetImageRequest { name: image.to_owned() };
        let answer: Result<GetImageResponse, Status> =
            self.unary(GET_IMAGE, &what, request).await?;
        let answer = answer.map_err(|status| match status.code() {
            Code::NotFound => ImageError::Unknown { image: image.to_owned() },
            _ => refused(&what, &status),
        })?;
        let target = answer.image.and_then(|image| image.target).unwrap_or_default();
        let digest =
            Digest::parse(&target.digest).ok_or(ImageError::Digest { digest: target.digest })?;
        // containerd knows no negative lengths; one would be too large to read.
        let bytes = u64::try_from(target.size).unwrap_or(u64::MAX);
        Ok(Blob { media_type: target.media_type, digest, bytes })
    }

    async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        self.within(READ_PATIENCE, &format!("content {}", blob.digest), self.pieces(blob)).await?
    }
}

fn refused(what: &str, status: &Status) -> ImageError {
    ImageError::Refused { what: what.to_owned(), reason: status.message().to_owned() }
}
