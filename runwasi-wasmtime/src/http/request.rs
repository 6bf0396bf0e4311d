//! What must be true of a request before a guest is given it.

use http::{HeaderMap, Method, Request, Uri, Version, header, uri::Authority, uri::Scheme};

use super::error::Failure;

/// Checks it and writes whom it is for into its URI: there guests of both worlds look for it. `own` is the authority of a client
/// that names none, as HTTP/1.0 allows.
pub(super) fn check<B>(request: &mut Request<B>, own: &Authority) -> Result<(), Failure> {
    if request.method() == Method::CONNECT {
        // A tunnel; no world of WASI has it.
        return Err(Failure::Method);
    }
    let named = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => host(request.headers())?,
    };
    let authority = match named {
        Some(authority) => authority,
        None if request.version() == Version::HTTP_10 => own.clone(),
        None => return Err(Failure::Request("names no host")),
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.authority = Some(authority);
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|_| Failure::Request("has a target that is no path"))?;
    Ok(())
}

fn host(headers: &HeaderMap) -> Result<Option<Authority>, Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(host), None) => {
            let authority = Authority::try_from(host.as_bytes());
            authority.map(Some).map_err(|_| Failure::Request("names a host that is none"))
        }
        (Some(_), Some(_)) => Err(Failure::Request("names more than one host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(
        version: Version,
        method: Method,
        uri: &str,
        hosts: &[&str],
    ) -> Result<String, Failure> {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let mut request = request.body(()).unwrap();
        check(&mut request, &Authority::from_static("10.0.0.1:8080"))?;
        Ok(request.uri().to_string())
    }

    #[test]
    fn the_host_becomes_part_of_the_uri() {
        let get = |version, uri, hosts| checked(version, Method::GET, uri, hosts);
        assert_eq!(
            get(Version::HTTP_11, "/a?b", &["example.org"]).unwrap(),
            "http://example.org/a?b"
        );
        assert_eq!(
            get(Version::HTTP_11, "http://other/a", &["example.org"]).unwrap(),
            "http://other/a"
        );
        assert_eq!(get(Version::HTTP_2, "https://h2/a", &[]).unwrap(), "https://h2/a");
        assert_eq!(get(Version::HTTP_10, "/a", &[]).unwrap(), "http://10.0.0.1:8080/a");
    }

    #[test]
    fn what_no_guest_can_be_given_is_refused() {
        let status = |version, method, uri, hosts| {
            checked(version, method, uri, hosts).unwrap_err().status().as_u16()
        };
        assert_eq!(status(Version::HTTP_11, Method::GET, "/", &[]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "/", &["a", "b"]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "/", &["a b"]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "/", &[""]), 400);
        assert_eq!(
            status(Version::HTTP_11, Method::CONNECT, "example.org:80", &["example.org"]),
            501
        );
    }
}
