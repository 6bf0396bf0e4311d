//! Checks of a request before a guest gets it.

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version, header, uri::Authority, uri::Scheme,
};

use super::error::Failure;
use crate::authority;

const NO_HOST: Failure = Failure::Request("names no host");
const BAD_HOST: Failure = Failure::Request("names a host that is none");

/// Checks a request and writes its authority into its URI. `own` is the authority if the client
/// does not name one, as HTTP/1.0 allows.
pub(super) fn check<B>(request: &mut Request<B>, own: &Authority) -> Result<(), Failure> {
    if request.method() == Method::CONNECT {
        // CONNECT asks for a tunnel, and no world of WASI has tunnels.
        return Err(Failure::Method);
    }
    check_coding(request.headers())?;
    if request.uri().path() == "*" && request.method() != Method::OPTIONS {
        // RFC 9112, section 3.2.4.
        return Err(Failure::Request("has a target that is for OPTIONS alone"));
    }
    let host = host(request.headers())?;
    if host.is_none() && request.version() == Version::HTTP_11 {
        // Also with an authority in the target: RFC 9112, section 3.2.
        return Err(NO_HOST);
    }
    // An authority in the target wins over `Host`: RFC 9112, section 3.2.2.
    let authority = match request.uri().authority().cloned().or(host) {
        Some(authority) => authority,
        None if request.version() == Version::HTTP_10 => own.clone(),
        None => return Err(NO_HOST),
    };
    authority::port(&authority).map_err(|_| BAD_HOST)?;
    join_cookies(request.headers_mut());
    // Guests of both worlds look for the authority in the URI.
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.authority = Some(authority);
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|_| Failure::Request("has a target that is no path"))?;
    Ok(())
}

/// True if the client of HTTP/1.1 sends the body when it is asked for.
pub(super) fn keeps_body_back<B>(request: &Request<B>) -> bool {
    // hyper asks for this value alone, and does not ask clients of HTTP/2.
    let awaits = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    request.version() == Version::HTTP_11
        && request.headers().get(header::EXPECT).is_some_and(awaits)
}

/// Refuses transfer codings beside chunks: hyper undoes these alone (RFC 9112, section 6.1).
fn check_coding(headers: &HeaderMap) -> Result<(), Failure> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_known = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if is_known { Ok(()) } else { Err(Failure::Coding) }
}

fn host(headers: &HeaderMap) -> Result<Option<Authority>, Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next();
    let second = hosts.next();
    // More than one `Host`, or an invalid one, is a bad request: RFC 9112, section 3.2. A guest and
    // a proxy before it could otherwise take different hosts.
    match (first, second) {
        (None, _) => Ok(None),
        (Some(host), None) => {
            let authority = Authority::try_from(host.as_bytes()).map_err(|_| BAD_HOST)?;
            // Also if an authority in the target wins.
            authority::port(&authority).map_err(|_| BAD_HOST)?;
            Ok(Some(authority))
        }
        (Some(_), Some(_)) => Err(Failure::Request("names more than one host")),
    }
}

/// Joins the parts of a cookie field, which a client of HTTP/2 may send as several: RFC 9113,
/// section
/// 8.2.3. Most programs look at one field alone.
fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() < 2 {
        return;
    }
    // No error: the parts are values.
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
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
    fn connect_and_requests_without_exactly_one_valid_host_are_refused() {
        let status = |version, method, uri, hosts: &[&str]| {
            checked(version, method, uri, hosts).unwrap_err().status().as_u16()
        };
        assert_eq!(status(Version::HTTP_11, Method::GET, "/", &[]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "/", &["a", "b"]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "/", &["a b"]), 400);
        for host in ["", "u@h", "u:p@h", "h:ab", "h:99999", "[::1]:x"] {
            assert_eq!(status(Version::HTTP_11, Method::GET, "/", &[host]), 400, "{host}");
        }
        assert_eq!(status(Version::HTTP_11, Method::GET, "http://u@a/", &["a"]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "http://a/", &["h:ab"]), 400);
        assert_eq!(status(Version::HTTP_2, Method::GET, "http://u:p@a/", &[]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "*", &["a"]), 400);
        // An authority in the target is not in place of the field.
        assert_eq!(status(Version::HTTP_11, Method::GET, "http://a/", &[]), 400);
        assert_eq!(status(Version::HTTP_11, Method::GET, "http://a/", &["a", "b"]), 400);
        assert_eq!(
            status(Version::HTTP_11, Method::CONNECT, "example.org:80", &["example.org"]),
            501
        );
    }

    #[test]
    fn transfer_codings_beside_chunks_are_refused() {
        let refused = |codings: &[&str]| {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(header::TRANSFER_ENCODING, HeaderValue::from_str(coding).unwrap());
            }
            check_coding(&headers).err()
        };
        assert_eq!(refused(&[]), None);
        assert_eq!(refused(&["Chunked"]), None);
        let wrong: [&[&str]; 3] = [&["gzip, chunked"], &["chunked, chunked"], &["gzip", "chunked"]];
        for codings in wrong {
            assert_eq!(refused(codings).unwrap().status().as_u16(), 501, "{codings:?}");
        }
    }

    #[test]
    fn cookies_in_several_fields_become_one_field() {
        for (parts, joined) in [
            (&[][..], None),
            (&["a=1; b=2"], Some("a=1; b=2")),
            (&["a=1", "b=2; c=3", "d=4"], Some("a=1; b=2; c=3; d=4")),
        ] {
            let mut request = Request::builder().version(Version::HTTP_2).uri("http://a/");
            for part in parts {
                request = request.header(header::COOKIE, *part);
            }
            let mut request = request.body(()).unwrap();
            check(&mut request, &Authority::from_static("10.0.0.1:8080")).unwrap();
            let mut cookies = request.headers().get_all(header::COOKIE).iter();
            assert_eq!(cookies.next().map(|cookie| cookie.to_str().unwrap()), joined);
            assert!(cookies.next().is_none());
        }
    }
}
