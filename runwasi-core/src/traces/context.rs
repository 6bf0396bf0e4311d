//! Identity of a span in the form of W3C Trace Context: `traceparent` and `tracestate`.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest `tracestate` that is passed on, in bytes. The specification asks for no more.
const LONGEST_STATE: usize = 512;

/// Identity of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace. Never zero.
    pub trace: [u8; 16],
    /// The span. Never zero.
    pub span: [u8; 8],
    /// True if the trace is recorded.
    pub sampled: bool,
    /// Data of other systems, passed on as they are. Empty if there are none.
    pub state: String,
}

impl SpanContext {
    /// Parses a `traceparent` of any version. An invalid one counts as absent.
    pub fn parse(traceparent: &str, state: &str) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let version = bytes::<1>(parts.next()?)?;
        let context = Self {
            trace: bytes(parts.next()?)?,
            span: bytes(parts.next()?)?,
            sampled: bytes::<1>(parts.next()?)?[0] & 1 == 1,
            state: checked_state(state),
        };
        // Later versions may append fields.
        let is_valid = match version[0] {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        let has_ids = context.trace != [0; 16] && context.span != [0; 8];
        (is_valid && has_ids).then_some(context)
    }

    /// The context of a request's header fields. Several `traceparent` count as none.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?.to_str().ok()?;
        if parents.next().is_some() {
            return None;
        }
        let states = headers.get_all(TRACESTATE).iter().filter_map(|state| state.to_str().ok());
        Self::parse(parent, &states.collect::<Vec<_>>().join(","))
    }

    /// The context of a call's metadata in ttrpc.
    pub fn of_metadata(metadata: &HashMap<String, Vec<String>>) -> Option<Self> {
        let [parent] = metadata.get("traceparent")?.as_slice() else { return None };
        let state = metadata.get("tracestate").map(|states| states.join(",")).unwrap_or_default();
        Self::parse(parent, &state)
    }

    /// The field `traceparent`.
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", hex(&self.trace), hex(&self.span))
    }

    /// Replaces the fields of a request.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        // Never an error: hexadecimal digits.
        if let Ok(parent) = HeaderValue::from_str(&self.traceparent()) {
            headers.insert(TRACEPARENT, parent);
        }
        match HeaderValue::from_str(&self.state) {
            Ok(state) if !state.is_empty() => drop(headers.insert(TRACESTATE, state)),
            _ => drop(headers.remove(TRACESTATE)),
        }
    }
}

/// The bytes of lower-case hexadecimal digits.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_lower = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.bytes().all(is_lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn checked_state(state: &str) -> String {
    let is_visible = state.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_visible && state.len() <= LONGEST_STATE { state.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn valid_contexts_are_read_and_written() {
        let context = SpanContext::parse(PARENT, "a=b,c=d").unwrap();
        assert!(context.sampled && context.trace[0] == 0x0a && context.span[7] == 0x31);
        assert_eq!(context.traceparent(), PARENT);
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static("old"));
        context.write_to(&mut headers);
        assert_eq!(SpanContext::of_headers(&headers), Some(context.clone()));
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(SpanContext::of_headers(&headers), None, "two of them");
        let later = format!("cc{}-what-comes-later", &PARENT[2..]);
        assert_eq!(SpanContext::parse(&later, "a=b,c=d"), Some(context));
        let unsampled = SpanContext::parse(&PARENT.replace("-01", "-02"), "").unwrap();
        assert!(!unsampled.sampled);
        let metadata = |parents: &[&str]| {
            let parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
            SpanContext::of_metadata(&HashMap::from([("traceparent".to_owned(), parents)]))
        };
        assert!(metadata(&[PARENT]).is_some());
        assert!(metadata(&[PARENT, PARENT]).is_none() && metadata(&[]).is_none());
    }

    #[test]
    fn invalid_contexts_count_as_absent() {
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319\u{e4}-b7ad6b7169203331-01",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(SpanContext::parse(wrong, ""), None, "{wrong}");
        }
        let state = |state: &str| SpanContext::parse(PARENT, state).unwrap().state;
        assert_eq!(state(&"x".repeat(513)), "");
        assert_eq!(state("a=\r\nb"), "");
    }
}
