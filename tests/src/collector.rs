//! A collector of traces, played: takes spans by OTLP over HTTP or gRPC, and keeps them; called by the tests of traces.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;

use crate::poll::poll_until;

/// How long spans may take: they are collected for a while, then exported.
const SOON: Duration = Duration::from_secs(15);

/// The collector. It ends with the test.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

/// A span, with what a test looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// The span it is a part of; empty if it begins a trace.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// Its kind, by number: 1 internal, 2 server, 3 client.
    pub kind: i32,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// The same.
    pub end: u64,
    /// Its error, if it has failed.
    pub error: Option<String>,
    /// Its attributes.
    pub attributes: HashMap<String, String>,
    /// The attributes of its process.
    pub resource: HashMap<String, String>,
}

impl Span {
    /// Its `traceparent`.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

impl Collector {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let taken = spans.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let taken = taken.clone();
                thread::spawn(move || {
                    // An error: the daemon has closed its connection.
                    drop(serve(&client, &taken));
                });
            }
        });
        Ok(Self { address, spans })
    }

    /// Starts one that speaks gRPC.
    pub fn by_grpc() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let taken = spans.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            // An error: no client can be accepted any more.
            drop(runtime.block_on(serve_grpc(listener, taken)));
        });
        Ok(Self { address, spans })
    }

    /// The environment of a daemon that exports to it, soon after a span has ended.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let endpoint = format!("http://{}", self.address);
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned())]
    }

    /// All spans until now.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().map(|spans| spans.clone()).unwrap_or_default()
    }

    /// Waits for a span.
    pub fn find(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Result<Span> {
        let found = poll_until(what, SOON, || self.spans().into_iter().find(&is_it));
        found.with_context(|| format!("spans: {:#?}", self.spans()))
    }

    /// Waits for the parts of a span, as many as these names.
    pub fn parts(&self, of: &Span, names: &[&str]) -> Result<Vec<Span>> {
        let parts = poll_until("parts of a span", SOON, || {
            let spans = self.spans();
            let part = |name: &&str| {
                spans.iter().find(|span| span.parent == of.id && span.name == **name).cloned()
            };
            names.iter().map(part).collect::<Option<Vec<_>>>()
        });
        parts.with_context(|| format!("spans: {:#?}", self.spans()))
    }
}

/// Calls of the trace service by gRPC.
async fn serve_grpc(listener: TcpListener, taken: Arc<Mutex<Vec<Span>>>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let taken = taken.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let taken = taken.clone();
            exported(request, taken)
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answer);
        connections.spawn(connection);
    }
}

/// One call: a message of 5 bytes and the request.
async fn exported(
    request: Request<Incoming>,
    taken: Arc<Mutex<Vec<Span>>>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>> {
    let path = request.uri().path().to_owned();
    ensure!(path == "/opentelemetry.proto.collector.trace.v1.TraceService/Export", "{path}");
    let body = request.into_body().collect().await?.to_bytes();
    let spans = decode(body.get(5..).context("no message")?)?;
    if let Ok(mut taken) = taken.lock() {
        taken.extend(spans);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // An empty message.
    let body = Full::from(vec![0; 5]).with_trailers(async { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(body)?)
}

/// Requests of one connection.
fn serve(client: &TcpStream, taken: &Mutex<Vec<Span>>) -> Result<()> {
    let mut reader = BufReader::new(client);
    loop {
        let (line, length) = head(&mut reader)?;
        ensure!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let spans = decode(&body)?;
        if let Ok(mut taken) = taken.lock() {
            taken.extend(spans);
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0";
        (&*client).write_all(format!("{answer}\r\n\r\n").as_bytes())?;
    }
}

/// The first line of a request, and the length of its body.
fn head(reader: &mut impl BufRead) -> Result<(String, usize)> {
    let mut first = None;
    let mut length = 0;
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the end");
        let line = line.trim_end().to_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse()?;
        }
        match first {
            None => first = Some(line.replace("post", "POST").replace("http", "HTTP")),
            Some(first) if line.is_empty() => return Ok((first, length)),
            Some(_) => {}
        }
    }
}

/// The spans of an export.
pub fn decode(body: &[u8]) -> Result<Vec<Span>> {
    let request = ExportTraceServiceRequest::decode(body)?;
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.context("no resource")?;
        let resource = attributes(resource.attributes)?;
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let failed = span.status.filter(|status| status.code == 2);
            spans.push(Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                error: failed.map(|status| status.message),
                attributes: attributes(span.attributes)?,
                resource: resource.clone(),
            });
        }
    }
    Ok(spans)
}

fn attributes(attributes: Vec<KeyValue>) -> Result<HashMap<String, String>> {
    let text = |attribute: KeyValue| {
        let value = attribute.value.and_then(|value| value.value);
        let value = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => bail!("{}: {other:?}", attribute.key),
        };
        Ok((attribute.key, value))
    };
    attributes.into_iter().map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
