//! Messages of containerd's gRPC API, as far as a container's image needs them.
//!
//! Written by hand from `containers.proto`, `images.proto`, `content.proto` and `descriptor.proto`: the numbers and names are
//! theirs. What is left out here is skipped when an answer has it.

use prost::Message;

/// Of `Containers.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContainerRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// Of `Containers.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

/// containerd's record of a container.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    /// The name of the image it was made from; empty if there was none.
    #[prost(string, tag = "3")]
    pub(super) image: String,
}

/// Of `Images.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// Of `Images.Get`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

/// containerd's record of an image.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    /// What its name stands for.
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

/// A blob.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    /// `sha256:…`
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

/// Of `Content.Read`: the whole blob.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

/// Of `Content.Read`, one of many.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentResponse {
    /// Where `data` lies in the blob.
    #[prost(int64, tag = "1")]
    pub(super) offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) data: Vec<u8>,
}
