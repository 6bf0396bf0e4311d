//! An outgoing request by `wasi:http`.

use std::error::Error;
use std::io::{self, Read, Write};

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingBody, OutgoingRequest, Scheme};

use crate::{Outcome, print};

pub(crate) fn get(url: &str) -> Outcome {
    let answer = handle(request(url)?, None)?;
    answer.subscribe().block();
    let response = answer
        .get()
        .ok_or("no answer although it is ready")?
        .map_err(|()| "the answer was taken")??;
    print(&response.status().to_string())?;
    let body = response.consume().map_err(|()| "the body was taken")?;
    let mut stream = body.stream().map_err(|()| "the stream was taken")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    drop(stream);
    IncomingBody::finish(body);
    let mut out = io::stdout().lock();
    out.write_all(&bytes)?;
    Ok(out.flush()?)
}

fn request(url: &str) -> Result<OutgoingRequest, Box<dyn Error>> {
    let (scheme, rest) = url.split_once("://").ok_or("a URL begins with a scheme")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).map_err(|()| format!("not a scheme in {url}"))?;
    request.set_authority(Some(authority)).map_err(|()| format!("not an authority in {url}"))?;
    request.set_path_with_query(Some(path)).map_err(|()| format!("not a path in {url}"))?;
    Ok(request)
}
