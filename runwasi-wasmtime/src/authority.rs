//! Authority of an HTTP request: a host, and perhaps a port.

use http::uri::Authority;

/// An authority that no request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// The port of an authority, if it has one. An error for user information, which a server would
/// take for a part of the host (RFC 9110, section 4.2.4), and for a port that is none.
// The type checks neither: of a wrong port it tells that there is no port.
pub(crate) fn port(authority: &Authority) -> Result<Option<u16>, Invalid> {
    let text = authority.as_str();
    if text.contains('@') {
        return Err(Invalid);
    }
    // An IPv6 address in brackets has colons of its own.
    let after_host = text.rsplit_once(']').map_or(text, |(_, rest)| rest);
    match after_host.split_once(':') {
        // Without digits it is the default one: RFC 3986, section 3.2.3.
        None | Some((_, "")) => Ok(None),
        Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map(Some).map_err(|_| Invalid)
        }
        Some(_) => Err(Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_of_16_bits_and_users_are_refused() {
        let port = |text: &'static str| port(&Authority::from_static(text));
        for (text, wanted) in [("h", None), ("h:", None), ("h:80", Some(80)), ("[::1]", None)] {
            assert_eq!(port(text), Ok(wanted), "{text}");
        }
        assert_eq!(port("[::1]:65535"), Ok(Some(65_535)));
        for text in ["h:65536", "h:99999", "h:ab", "[::1]:x", "u@h", "u:p@h", "u@[::1]:80"] {
            assert_eq!(port(text), Err(Invalid), "{text}");
        }
    }
}
