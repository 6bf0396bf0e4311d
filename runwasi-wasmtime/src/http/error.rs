//! Reasons why a request has no answer of the guest, and the status that its client gets instead.

use http::StatusCode;
use runwasi_core::metrics::http::Failure as Counted;
use wasmtime_wasi_http::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The request cannot be given to a guest.
    #[error("the request {0}")]
    Request(&'static str),
    #[error("the method is not supported")]
    Method,
    #[error("the transfer coding is not supported")]
    Coding,
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
            Self::Method | Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Busy | Self::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed | Self::Silent | Self::Status => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Refused(status) => status,
        }
    }

    /// The failure in the metrics.
    pub(super) fn counted(self) -> Counted {
        match self {
            Self::Request(_) | Self::Method | Self::Coding => Counted::Request,
            Self::Busy => Counted::Busy,
            Self::NoMemory => Counted::NoMemory,
            Self::TimedOut => Counted::TimedOut,
            Self::Failed | Self::Silent | Self::Status => Counted::Failed,
            Self::Refused(_) => Counted::Refused,
        }
    }

    /// Failure for an error code that the guest has answered with.
    // The worlds have the same codes, each in a type of its own. The library's error has all.
    pub(super) fn of_guest(code: impl Into<Error>) -> Self {
        Self::Refused(match code.into() {
            Error::HttpRequestDenied => StatusCode::FORBIDDEN,
            Error::HttpRequestMethodInvalid => StatusCode::METHOD_NOT_ALLOWED,
            Error::HttpRequestLengthRequired => StatusCode::LENGTH_REQUIRED,
            Error::HttpRequestBodySize(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::HttpRequestUriInvalid => StatusCode::BAD_REQUEST,
            Error::HttpRequestUriTooLong => StatusCode::URI_TOO_LONG,
            Error::ConnectionReadTimeout => StatusCode::REQUEST_TIMEOUT,
            Error::InternalError(_) => StatusCode::INTERNAL_SERVER_ERROR,
            // The other codes are about requests that the guest sends: it is a gateway then.
            _ => StatusCode::BAD_GATEWAY,
        })
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi_http::{
        p2::bindings::http::types::ErrorCode as P2, p3::bindings::http::types::ErrorCode as P3,
    };

    use super::*;

    #[test]
    fn codes_of_both_worlds_have_the_same_status() {
        let status = |of_p2: P2, of_p3: P3| {
            let status = Failure::of_guest(of_p2).status();
            assert_eq!(Failure::of_guest(of_p3).status(), status);
            status.as_u16()
        };
        assert_eq!(status(P2::HttpRequestDenied, P3::HttpRequestDenied), 403);
        assert_eq!(status(P2::HttpRequestMethodInvalid, P3::HttpRequestMethodInvalid), 405);
        assert_eq!(status(P2::HttpRequestLengthRequired, P3::HttpRequestLengthRequired), 411);
        let size = Some(1);
        assert_eq!(status(P2::HttpRequestBodySize(size), P3::HttpRequestBodySize(size)), 413);
        assert_eq!(status(P2::HttpRequestUriInvalid, P3::HttpRequestUriInvalid), 400);
        assert_eq!(status(P2::HttpRequestUriTooLong, P3::HttpRequestUriTooLong), 414);
        assert_eq!(status(P2::ConnectionReadTimeout, P3::ConnectionReadTimeout), 408);
        assert_eq!(status(P2::InternalError(None), P3::InternalError(None)), 500);
        assert_eq!(status(P2::ConnectionRefused, P3::ConnectionRefused), 502);
    }
}
