//! Reasons why a request has no answer of the guest, and the status that its client gets instead.

use http::StatusCode;
use wasmtime_wasi_http::{
    p2::bindings::http::types::ErrorCode as CodeP2, p3::bindings::http::types::ErrorCode as CodeP3,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The request cannot be given to a guest.
    #[error("the request {0}")]
    Request(&'static str),
    #[error("the method is not supported")]
    Method,
    /// The limit of requests, or of the pool of instances, is reached.
    #[error("no instance is free")]
    Busy,
    /// An instance does not fit into the container's memory limit.
    #[error("no memory is left for an instance")]
    NoMemory,
    #[error("no answer in time")]
    TimedOut,
    /// A trap, an exit, or a growth beyond the memory limit. The container's stderr has the
    /// details.
    #[error("the handler failed")]
    Failed,
    #[error("the handler has not answered")]
    Silent,
    /// The guest has answered with an error code of its own.
    #[error("the handler answered with an error")]
    Refused(StatusCode),
    /// The guest has answered with a status that is not final (1xx).
    #[error("the handler answered with a status that is no answer")]
    Status,
}

impl Failure {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Busy | Self::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed | Self::Silent | Self::Status => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Refused(status) => status,
        }
    }

    pub(super) fn of_p2(code: &CodeP2) -> Self {
        Self::Refused(match code {
            CodeP2::HttpRequestDenied => StatusCode::FORBIDDEN,
            CodeP2::HttpRequestMethodInvalid => StatusCode::METHOD_NOT_ALLOWED,
            CodeP2::HttpRequestLengthRequired => StatusCode::LENGTH_REQUIRED,
            CodeP2::HttpRequestBodySize(_) => StatusCode::PAYLOAD_TOO_LARGE,
            CodeP2::HttpRequestUriInvalid => StatusCode::BAD_REQUEST,
            CodeP2::HttpRequestUriTooLong => StatusCode::URI_TOO_LONG,
            CodeP2::ConnectionReadTimeout => StatusCode::REQUEST_TIMEOUT,
            CodeP2::InternalError(_) => StatusCode::INTERNAL_SERVER_ERROR,
            // The other codes are about requests that the guest sends: it is a gateway then.
            _ => StatusCode::BAD_GATEWAY,
        })
    }

    // The worlds have the same codes, but each has a type of its own.
    pub(super) fn of_p3(code: &CodeP3) -> Self {
        Self::Refused(match code {
            CodeP3::HttpRequestDenied => StatusCode::FORBIDDEN,
            CodeP3::HttpRequestMethodInvalid => StatusCode::METHOD_NOT_ALLOWED,
            CodeP3::HttpRequestLengthRequired => StatusCode::LENGTH_REQUIRED,
            CodeP3::HttpRequestBodySize(_) => StatusCode::PAYLOAD_TOO_LARGE,
            CodeP3::HttpRequestUriInvalid => StatusCode::BAD_REQUEST,
            CodeP3::HttpRequestUriTooLong => StatusCode::URI_TOO_LONG,
            CodeP3::ConnectionReadTimeout => StatusCode::REQUEST_TIMEOUT,
            CodeP3::InternalError(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        })
    }
}
