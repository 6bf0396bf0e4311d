//! Runtime options in containerd's messages.
//!
//! containerd gives a runtime that it does not know a `runtimeoptions.v1.Options`. It comes from
//! containerd's configuration, with the path of a file or, since 1.7, with the keys themselves as
//! TOML. It also comes from `ctr run --runtime-config-path`. Options of another type are meant for
//! other runtimes: some clients send runc's to every runtime.

use containerd_shim_protos::protobuf::{self, well_known_types::any::Any};
use prost::{DecodeError, Message};

use crate::options::RuntimeOptions;

const TYPE: &str = "runtimeoptions.v1.Options";

/// The type of runc's options.
const RUNC_TYPE: &str = "containerd.runc.v1.Options";

#[derive(Message)]
struct Options {
    #[prost(string, tag = "2")]
    config_path: String,
    #[prost(string, tag = "3")]
    config_body: String,
}

#[derive(Message)]
struct RuncOptions {
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
}

/// The message with options for runc's shim; empty if the options are meant for another one.
pub(super) fn of_runc(given: &Any) -> Vec<u8> {
    match is_of_runc(given) {
        // Never fails: the message has no required field and is small.
        true => protobuf::Message::write_to_bytes(given).unwrap_or_default(),
        false => Vec::new(),
    }
}

fn is_of_runc(any: &Any) -> bool {
    any.type_url.rsplit('/').next() == Some(RUNC_TYPE)
}

/// The options for runc's shim. Those that are meant for it stay as they are; ours do not reach it.
pub(super) fn for_runc(given: Option<Any>, systemd_cgroup: bool) -> Option<Any> {
    if let Some(given) = given.filter(is_of_runc) {
        return Some(given);
    }
    let value = RuncOptions { systemd_cgroup }.encode_to_vec();
    let options = Any { type_url: RUNC_TYPE.to_owned(), value, ..Any::default() };
    systemd_cgroup.then_some(options)
}

/// Decodes the options, which are empty if they are meant for another runtime.
pub(crate) fn decode(any: &Any) -> Result<RuntimeOptions, DecodeError> {
    // Some versions write a host before the name.
    if any.type_url.rsplit('/').next() != Some(TYPE) {
        if !any.type_url.is_empty() {
            tracing::debug!(type_url = any.type_url, "runtime options for another runtime");
        }
        return Ok(RuntimeOptions::None);
    }
    let Options { config_path, config_body } = Options::decode(any.value.as_slice())?;
    Ok(match (config_path.is_empty(), config_body.is_empty()) {
        (false, _) => RuntimeOptions::File(config_path.into()),
        (true, false) => RuntimeOptions::Text(config_body),
        (true, true) => RuntimeOptions::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(type_url: &str, value: &[u8]) -> Result<RuntimeOptions, DecodeError> {
        decode(&Any { type_url: type_url.into(), value: value.into(), ..Any::default() })
    }

    #[test]
    fn only_options_of_runc_reach_its_start() {
        let of_type = |name: &str| {
            of_runc(&Any { type_url: name.into(), value: vec![26, 0], ..Any::default() })
        };
        assert!(of_type(RUNC_TYPE).ends_with(&[18, 2, 26, 0]));
        assert!(of_type(TYPE).is_empty() && of_type("").is_empty());
    }

    #[test]
    fn only_options_of_runc_reach_runc() {
        let of_runc = Any { type_url: RUNC_TYPE.into(), value: vec![8, 1], ..Any::default() };
        let ours = Any { type_url: TYPE.into(), value: vec![26, 1, 97], ..Any::default() };
        let systemd = Any { type_url: RUNC_TYPE.into(), value: vec![72, 1], ..Any::default() };
        for systemd_cgroup in [false, true] {
            assert_eq!(for_runc(Some(of_runc.clone()), systemd_cgroup), Some(of_runc.clone()));
        }
        for given in [None, Some(ours)] {
            assert_eq!(for_runc(given.clone(), false), None);
            assert_eq!(for_runc(given, true), Some(systemd.clone()));
        }
    }

    #[test]
    fn a_path_wins_over_a_body_and_a_body_over_nothing() {
        let file = || RuntimeOptions::File("/f".into());
        let with_host = format!("types.example.com/{TYPE}");
        let rows: [(&str, &[u8], RuntimeOptions); 7] = [
            (TYPE, b"", RuntimeOptions::None),
            (TYPE, b"\x0a\x01t\x12\x02/f", file()),
            (TYPE, b"\x0a\x01t\x1a\x03a=1", RuntimeOptions::Text("a=1".into())),
            (TYPE, b"\x12\x02/f\x1a\x03a=1", file()),
            (&with_host, b"\x12\x02/f", file()),
            ("containerd.runc.v1.Options", b"\xff\xff", RuntimeOptions::None),
            ("", b"", RuntimeOptions::None),
        ];
        for (type_url, value, wanted) in rows {
            assert_eq!(options(type_url, value), Ok(wanted), "{type_url} {value:?}");
        }
        for malformed in [&b"\x12\x7f/"[..], b"\x12", b"\x1a\x02\xff\xff", b"\x07"] {
            assert!(options(TYPE, malformed).is_err(), "{malformed:?}");
        }
    }
}
