//! Answer to one request: `GET /metrics`, or a refusal.

use std::{convert::Infallible, io, sync::Arc};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use tokio::sync::Semaphore;

use crate::{blocking::blocking, metrics::exposition::Format};

/// Path of the metrics.
const PATH: &str = "/metrics";

/// Sources of the answers.
pub struct Answers {
    /// Makes the text. Blocks.
    text: Arc<dyn Fn(Format) -> String + Send + Sync>,
    /// One text is made at a time: scrapes must not use up the threads for containers.
    making: Arc<Semaphore>,
}

impl Answers {
    /// Answers with the text of `text`, which may block.
    pub fn new(text: impl Fn(Format) -> String + Send + Sync + 'static) -> Self {
        Self { text: Arc::new(text), making: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn answer<B>(
        &self,
        request: &Request<B>,
    ) -> Result<Response<String>, Infallible> {
        if request.uri().path() != PATH {
            return Ok(refusal(StatusCode::NOT_FOUND, "only /metrics is here\n"));
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(response);
        }
        let format = format(request.headers());
        match self.text(format).await {
            // hyper sends no body with an answer to HEAD, and counts it all the same.
            Ok(text) => Ok(with_type(Response::new(text), format.content_type())),
            Err(error) => {
                tracing::error!(%error, "no metrics");
                Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "no metrics, see the log\n"))
            }
        }
    }

    async fn text(&self, format: Format) -> io::Result<String> {
        // Never an error: the semaphore is not closed.
        let turn = self.making.clone().acquire_owned().await;
        let text = self.text.clone();
        let make = move || {
            // Until the text is made: it is also if the client has gone meanwhile.
            let _turn = turn;
            Ok(text(format))
        };
        blocking(make, |lost| lost).await
    }
}

/// The format that a client asks for.
fn format(headers: &HeaderMap) -> Format {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_open = |accept: &str| accept.split(',').any(|kind| kind.trim().starts_with(OPEN));
    if accepts.into_iter().any(is_open) { Format::OpenMetrics } else { Format::Prometheus }
}

/// Type of OpenMetrics, which Prometheus names first.
const OPEN: &str = "application/openmetrics-text";

fn refusal(status: StatusCode, text: &str) -> Response<String> {
    let mut response = with_type(Response::new(text.to_owned()), "text/plain; charset=utf-8");
    *response.status_mut() = status;
    response
}

fn with_type(mut response: Response<String>, kind: &'static str) -> Response<String> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::lock::Mutex;

    #[tokio::test]
    async fn text_whose_client_has_gone_keeps_its_turn() {
        let (begin, begun) = mpsc::channel();
        let (release, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let answers = Answers::new(move |_| {
            begin.send(()).unwrap();
            let _ = gate.lock().recv();
            "text".to_owned()
        });
        let is_begun = async {
            while begun.try_recv().is_err() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = answers.text(Format::Prometheus) => panic!("made too early"),
            () = is_begun => {}
        }
        // The first client has gone, and its text is still being made.
        assert_eq!(answers.making.available_permits(), 0);
        drop(release);
        let next = timeout(Duration::from_secs(60), answers.text(Format::Prometheus)).await;
        assert_eq!(next.unwrap().unwrap(), "text");
    }

    #[test]
    fn format_follows_the_accept_header() {
        let format = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            super::format(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        assert_eq!(format(prometheus), Format::OpenMetrics);
        assert_eq!(format("text/html, application/openmetrics-text"), Format::OpenMetrics);
        assert_eq!(format("text/plain;version=0.0.4, */*"), Format::Prometheus);
        assert_eq!(super::format(&HeaderMap::new()), Format::Prometheus);
    }
}
