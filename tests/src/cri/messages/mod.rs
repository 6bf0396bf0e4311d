//! The messages of Kubernetes' CRI, `runtime.v1`, as far as the tests need them; sent and received by `super::Cri`.
//!
//! Written by hand from the interface's definition: the numbers are the interface's, and so are most names. A field left
//! out here is skipped when an answer has it. Here are images and what is common; [`pod`] and [`container`] have the rest.

use prost::Message;

pub mod container;
pub mod pod;

pub use container::*;
pub use pod::*;

/// An image.
#[derive(Clone, PartialEq, Message)]
pub struct ImageSpec {
    /// Its name or id.
    #[prost(string, tag = "1")]
    pub image: String,
    /// Its name as the pod has it; the kubelet gives the id besides.
    #[prost(string, tag = "18")]
    pub user_specified_image: String,
}

impl From<&str> for ImageSpec {
    fn from(image: &str) -> Self {
        Self { image: image.to_owned(), user_specified_image: String::new() }
    }
}

/// Asks for `Version`.
#[derive(Clone, PartialEq, Message)]
pub struct VersionRequest {}

/// Who answers.
#[derive(Clone, PartialEq, Message)]
pub struct VersionResponse {
    /// The program.
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub runtime_version: String,
}

/// An answer that says nothing, or whose words do not matter.
#[derive(Clone, PartialEq, Message)]
pub struct Nothing {}

/// Asks for `PodSandboxStatus` or `ContainerStatus`.
#[derive(Clone, PartialEq, Message)]
pub struct StatusRequest {
    /// The pod's or the container's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether `info` is wanted.
    #[prost(bool, tag = "2")]
    pub verbose: bool,
}

/// Asks for a list of everything.
#[derive(Clone, PartialEq, Message)]
pub struct ListRequest {}

/// Asks for `ImageStatus`.
#[derive(Clone, PartialEq, Message)]
pub struct ImageStatusRequest {
    /// The image.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// An image that is there.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The answer to `ImageStatus`; of an image that is not there it is empty.
#[derive(Clone, PartialEq, Message)]
pub struct ImageStatusResponse {
    /// The image.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// Asks for `PullImage`.
#[derive(Clone, PartialEq, Message)]
pub struct PullImageRequest {
    /// The image.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// The answer to `PullImage`.
#[derive(Clone, PartialEq, Message)]
pub struct PullImageResponse {
    /// The image's id.
    #[prost(string, tag = "1")]
    pub image_ref: String,
}
