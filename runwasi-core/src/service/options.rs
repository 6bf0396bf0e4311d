//! Runtime options in containerd's messages.
//!
//! containerd gives a runtime that it does not know a `runtimeoptions.v1.Options`. It comes from
//! containerd's configuration, with the path of a file or, since 1.7, with the keys themselves as
//! TOML. It also comes from `ctr run --runtime-config-path`. Options of another type are meant for
//! other runtimes: some clients send runc's to every runtime.

use containerd_shim_protos::protobuf::{
    self, CodedInputStream, rt::skip_field_for_tag, well_known_types::any::Any,
};

use crate::options::RuntimeOptions;

const TYPE: &str = "runtimeoptions.v1.Options";

/// Tags of two fields: the number and the wire type of strings and bytes (2).
const CONFIG_PATH: u32 = 2 << 3 | 2;
const CONFIG_BODY: u32 = 3 << 3 | 2;

/// Decodes the options, which are empty if they are meant for another runtime.
pub(super) fn decode(any: &Any) -> protobuf::Result<RuntimeOptions> {
    // Some versions write a host before the name.
    if any.type_url.rsplit('/').next() != Some(TYPE) {
        if !any.type_url.is_empty() {
            tracing::debug!(type_url = any.type_url, "runtime options for another runtime");
        }
        return Ok(RuntimeOptions::None);
    }
    let mut path = String::new();
    let mut body = String::new();
    let mut input = CodedInputStream::from_bytes(&any.value);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            CONFIG_PATH => path = input.read_string()?,
            CONFIG_BODY => body = input.read_string()?,
            other => skip_field_for_tag(other, &mut input)?,
        }
    }
    Ok(match (path.is_empty(), body.is_empty()) {
        (false, _) => RuntimeOptions::File(path.into()),
        (true, false) => RuntimeOptions::Text(body),
        (true, true) => RuntimeOptions::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(type_url: &str, value: &[u8]) -> protobuf::Result<RuntimeOptions> {
        decode(&Any { type_url: type_url.into(), value: value.into(), ..Any::default() })
    }

    #[test]
    fn a_path_wins_over_a_body_and_a_body_over_nothing() {
        let typed = |value: &[u8]| options(TYPE, value).unwrap();
        assert_eq!(typed(b""), RuntimeOptions::None);
        assert_eq!(typed(b"\x0a\x01t\x12\x02/f"), RuntimeOptions::File("/f".into()));
        assert_eq!(typed(b"\x0a\x01t\x1a\x03a=1"), RuntimeOptions::Text("a=1".into()));
        assert_eq!(typed(b"\x12\x02/f\x1a\x03a=1"), RuntimeOptions::File("/f".into()));
        assert_eq!(
            options(&format!("types.example.com/{TYPE}"), b"\x12\x02/f").unwrap(),
            typed(b"\x12\x02/f")
        );
    }

    #[test]
    fn options_of_other_runtimes_are_none() {
        assert_eq!(
            options("containerd.runc.v1.Options", b"\xff\xff").unwrap(),
            RuntimeOptions::None
        );
        assert_eq!(options("", b"").unwrap(), RuntimeOptions::None);
    }

    #[test]
    fn malformed_message_is_an_error() {
        for bytes in [&b"\x12\x7f/"[..], b"\x12", b"\x1a\x02\xff\xff", b"\x07"] {
            assert!(options(TYPE, bytes).is_err(), "{bytes:?}");
        }
    }
}
