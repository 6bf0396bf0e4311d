//! An answer: its status, then its body in one piece or in several.

use wasip2::http::types::{Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::{OutputStream, StreamError};

use crate::Outcome;

/// Most that a stream takes at once.
const MOST: usize = 4096;

/// An answer that has not begun.
pub(crate) struct Answer {
    out: ResponseOutparam,
    response: OutgoingResponse,
}

/// A body that is being sent.
pub(crate) struct Sending {
    // Goes before the body.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Answer {
    pub(crate) fn to(out: ResponseOutparam) -> Self {
        Self { out, response: OutgoingResponse::new(Fields::new()) }
    }

    /// Declares the length of the body.
    pub(crate) fn of_length(self, length: u64) -> Result<Self, String> {
        let length = ("content-length".to_owned(), length.to_string().into_bytes());
        let fields = Fields::from_list(&[length]).map_err(|error| format!("{error:?}"))?;
        Ok(Self { out: self.out, response: OutgoingResponse::new(fields) })
    }

    pub(crate) fn status(self, code: u16) -> Result<Self, String> {
        self.response.set_status_code(code).map_err(|()| format!("{code} is not a status"))?;
        Ok(self)
    }

    /// Sends status and headers.
    pub(crate) fn begin(self) -> Result<Sending, &'static str> {
        let body = self.response.body().map_err(|()| "the body was taken")?;
        ResponseOutparam::set(self.out, Ok(self.response));
        let stream = body.write().map_err(|()| "the stream was taken")?;
        Ok(Sending { stream, body })
    }

    pub(crate) fn text(self, text: &str) -> Outcome {
        let mut sending = self.begin()?;
        sending.write(text.as_bytes())?;
        sending.end()
    }
}

impl Sending {
    /// Waits until the bytes are on their way.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Outcome {
        Ok(bytes.chunks(MOST).try_for_each(|part| self.stream.blocking_write_and_flush(part))?)
    }

    /// Sends all of another body, each piece before the next is waited for, and ends.
    pub(crate) fn pass_on(mut self, other: IncomingBody) -> Outcome {
        let from = other.stream().map_err(|()| "the stream was taken")?;
        loop {
            match from.blocking_read(64 << 10) {
                Ok(piece) => self.write(&piece)?,
                Err(StreamError::Closed) => break,
                Err(error) => return Err(error.into()),
            }
        }
        drop(from);
        IncomingBody::finish(other);
        self.end()
    }

    pub(crate) fn end(self) -> Outcome {
        drop(self.stream);
        Ok(OutgoingBody::finish(self.body, None)?)
    }
}
