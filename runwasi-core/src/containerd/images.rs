//! Client of containerd's image store: the gRPC services `Containers`, `Images` and `Content`.
//!
//! Every call opens a connection and closes it again. A container asks at most once in its life,
//! and most containers never ask, so an idle connection would only cost memory. Every wait has a
//! timeout.

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
    Descriptor, GetContainerRequest, GetContainerResponse, GetImageRequest, GetImageResponse,
    Image, ListImagesRequest, ListImagesResponse, ReadContentRequest, ReadContentResponse,
};
use crate::{
    artifact::oci::{Images, blob::Blob, error::ImageError},
    digest::Digest,
    id::Id,
};

/// Timeout of a record, of the start of a read, and of each piece of a blob.
// A containerd in good health needs milliseconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a whole blob.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest message of a response, in bytes.
// The limit at which containerd sends by default.
const MAX_MESSAGE: usize = 16 << 20;

/// Header with containerd's namespace.
const NAMESPACE: &str = "containerd-namespace";

const GET_CONTAINER: &str = "/containerd.services.containers.v1.Containers/Get";
const GET_IMAGE: &str = "/containerd.services.images.v1.Images/Get";
const LIST_IMAGES: &str = "/containerd.services.images.v1.Images/List";
const READ_CONTENT: &str = "/containerd.services.content.v1.Content/Read";

/// Client for the images of one containerd in one of its namespaces.
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

    pub(super) async fn unary<Q, A>(
        &self,
        path: &'static str,
        what: &str,
        request: Q,
    ) -> Result<Result<A, Status>, ImageError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        // The connection belongs to the call: a timeout drops and closes it.
        let call = async {
            let mut client = self.connect().await?;
            let codec = ProstCodec::<Q, A>::default();
            Ok(client.unary(self.request(request), PathAndQuery::from_static(path), codec).await)
        };
        let answer = self.within(CALL_TIMEOUT, what, call).await??;
        Ok(answer.map(tonic::Response::into_inner))
    }

    async fn connect(&self) -> Result<Grpc<Channel>, ImageError> {
        let address = self.address.clone();
        let connector = service_fn(move |_: Uri| {
            // The connector may be called more than once, so each future gets its own copy.
            let address = address.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(address).await?)) }
        });
        // HTTP requires a host name. The connector ignores it.
        let connected =
            Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        let mut client = Grpc::new(connected.map_err(|error| self.unreachable(&error))?)
            .max_decoding_message_size(MAX_MESSAGE);
        // tonic requires the wait for readiness before each call.
        client.ready().await.map_err(|error| self.unreachable(&error))?;
        Ok(client)
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        // Never fails: an id consists of ASCII letters, digits, `.`, `_` and `-`.
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

    /// The error for a failed connection, with the innermost source as the reason.
    fn unreachable(&self, error: &dyn std::error::Error) -> ImageError {
        // The transport's own text is only "transport error"; the cause is in its sources.
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
        let mut stream =
            self.within(CALL_TIMEOUT, &what, opened).await??.map_err(failed)?.into_inner();
        let mut bytes = room(blob)?;
        while let Some(piece) =
            self.within(CALL_TIMEOUT, &what, stream.message()).await?.map_err(failed)?
        {
            let damaged = |reason| ImageError::Damaged { digest: blob.digest, reason };
            // A gap or an overlap would move all later bytes.
            if u64::try_from(piece.offset) != Ok(bytes.len() as u64) {
                return Err(damaged(format!(
                    "a piece of it is for byte {} after {} bytes",
                    piece.offset,
                    bytes.len()
                )));
            }
            // Bounds the memory whatever the server sends. The caller detects a short blob by its
            // digest.
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
        // Containers can be created from a root file system alone.
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
        blob(answer.image.and_then(|image| image.target).unwrap_or_default())
    }

    async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        // Each piece has a timeout of its own; this one bounds their sum.
        self.within(READ_TIMEOUT, &format!("content {}", blob.digest), self.pieces(blob)).await?
    }

    async fn all(&self) -> Result<Vec<(String, Blob)>, ImageError> {
        let what = "the list of images";
        let answer: Result<ListImagesResponse, Status> =
            self.unary(LIST_IMAGES, what, ListImagesRequest {}).await?;
        let images = answer.map_err(|status| refused(what, &status))?.images;
        // Others have digests that nothing here could verify.
        let named = |image: Image| Some((image.name, blob(image.target?).ok()?));
        Ok(images.into_iter().filter_map(named).collect())
    }
}

/// An empty vector with room for a blob.
// Exact: growth by doubling would hold up to twice the blob. The kernel provides memory only for
// the pages that are written, but may refuse the declared length, which must not end the process.
fn room(blob: &Blob) -> Result<Vec<u8>, ImageError> {
    let Blob { digest, bytes: length, .. } = *blob;
    let mut bytes = Vec::new();
    match bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX)) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            Err(ImageError::NoMemory { digest, bytes: length, reason: error.to_string() })
        }
    }
}

fn blob(target: Descriptor) -> Result<Blob, ImageError> {
    let digest =
        Digest::parse(&target.digest).ok_or(ImageError::Digest { digest: target.digest })?;
    // containerd stores no negative lengths. One would become too large to be read.
    let bytes = u64::try_from(target.size).unwrap_or(u64::MAX);
    Ok(Blob { media_type: target.media_type, digest, bytes })
}

fn refused(what: &str, status: &Status) -> ImageError {
    ImageError::Refused { what: what.to_owned(), reason: status.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_without_memory_is_an_error_that_names_the_blob() {
        let blob = |bytes| Blob { media_type: String::new(), digest: Digest::of(b"x"), bytes };
        for length in [1 << 62, u64::MAX] {
            let error = room(&blob(length)).unwrap_err().to_string();
            let digest = Digest::of(b"x").to_string();
            assert!(error.contains(&digest) && error.contains(&length.to_string()), "{error}");
        }
        assert_eq!(room(&blob(7)).unwrap().capacity(), 7);
    }
}
