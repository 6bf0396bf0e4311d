//! An outgoing request, by `wasi:http`.

use wasip3::http::client;
use wasip3::http::types::{Fields, Request, Response, Scheme};
use wasip3::wit_future;

use crate::Outcome;

pub(crate) async fn get_often(url: &str, count: &str) -> Outcome {
    let mut answers = String::new();
    for _ in 0..count.parse::<u32>().map_err(|error| error.to_string())? {
        answers += &get(url).await?;
    }
    Ok(answers)
}

pub(crate) async fn get(url: &str) -> Outcome {
    let (scheme, rest) = url.split_once("://").ok_or("a URL begins with a scheme")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    let wrong = |()| format!("no URL: {url}");
    request.set_scheme(Some(&scheme)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(path)).map_err(wrong)?;
    let answer = client::send(request).await.map_err(|error| format!("{error:?}"))?;
    let status = answer.get_status_code();
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(answer, taken);
    let body = body.collect().await;
    trailers.await.map_err(|error| format!("{error:?}"))?;
    Ok(format!("{status}\n{}", String::from_utf8_lossy(&body)))
}
