//! Variables about requests to the collector that the exporter reads itself. It leaves out without
//! a word what it does not understand: a collector would refuse all spans for a token that is
//! missing.

use hyper::header::HeaderName;

use super::variables::{VariableError, Variables, first};

const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const COMPRESSIONS: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];

/// Compressions of OpenTelemetry that are not compiled in.
const UNSUPPORTED: [&str; 2] = ["gzip", "zstd"];

/// Checks the header fields. An error has no value, which may be a token.
pub(super) fn check_headers(variables: Variables<'_>) -> Result<(), VariableError> {
    let Some((variable, text)) = first(variables, HEADERS) else { return Ok(()) };
    // Nothing is between two commas, or behind the last one.
    let fields = text.split(',').map(str::trim).enumerate();
    for (number, field) in fields.filter(|(_, field)| !field.is_empty()) {
        let wrong =
            |reason| Err(VariableError::new(variable, format!("field {}: {reason}", number + 1)));
        let Some((name, value)) = field.split_once('=') else {
            return wrong("is not KEY=VALUE; a comma in a value is written %2C".to_owned());
        };
        let name = name.trim();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            // Without it: of `NAME: TOKEN==` it would have the token.
            return wrong("its KEY is no name of a header field".to_owned());
        }
        match decoded(value.trim()) {
            value if value.is_empty() => return wrong(format!("{name:?} has no value")),
            value if value.iter().all(|byte| is_plain(*byte)) => {}
            _ => return wrong(format!("{name:?} has a value with other than plain characters")),
        }
    }
    Ok(())
}

/// Checks the compression. One that is not supported has no effect that a collector could see.
pub(super) fn check_compression(variables: Variables<'_>) -> Result<(), VariableError> {
    let Some((variable, text)) = first(variables, COMPRESSIONS) else { return Ok(()) };
    let word = text.to_ascii_lowercase();
    if UNSUPPORTED.contains(&word.as_str()) {
        tracing::warn!(
            variable,
            value = word.as_str(),
            "not supported: spans are sent uncompressed"
        );
    } else if word != "none" {
        let reason = format!("{text:?} is neither none nor one of {}", UNSUPPORTED.join(", "));
        return Err(VariableError::new(variable, reason));
    }
    Ok(())
}

/// The bytes of a value, of which some may be written as `%20`.
fn decoded(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}

/// True for a byte that the exporter takes in a value.
fn is_plain(byte: u8) -> bool {
    byte == b'\t' || byte == b' ' || byte.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, value: &str) -> Result<(), String> {
        let variables = |asked: &str| (asked == name).then(|| value.to_owned());
        let checked = check_headers(&variables).and_then(|()| check_compression(&variables));
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn header_fields_that_would_be_left_out_are_refused_without_their_values() {
        for good in [
            "",
            "a=b",
            "Authorization=Basic%20dXNlcg==, x-tenant = one ,",
            "a=b,,c=100%",
            "api-key=s%2Cs",
        ] {
            assert_eq!(check(HEADERS[1], good), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("a=b,hunter2", "field 2: is not KEY=VALUE"),
            ("authorization: Bearer hunter2", "field 1: is not KEY=VALUE"),
            ("authorization: Basic hunter2==", "field 1: its KEY is no name"),
            ("=hunter2", "field 1: its KEY is no name"),
            ("token=", "field 1: \"token\" has no value"),
            ("token=hunter2%0A", "field 1: \"token\" has a value with other than plain"),
            ("token=hunter2é", "field 1: \"token\" has a value with other than plain"),
        ] {
            for name in HEADERS {
                let error = check(name, bad).unwrap_err();
                assert!(error.starts_with(&format!("{name}: {reason}")), "{error}");
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
    }

    #[test]
    fn unknown_compression_is_refused_and_an_unsupported_one_is_not() {
        for good in ["", "none", "None", "gzip", "GZIP", "zstd"] {
            assert_eq!(check(COMPRESSIONS[0], good), Ok(()), "{good}");
        }
        let error = check(COMPRESSIONS[1], "br").unwrap_err();
        let wanted = "OTEL_EXPORTER_OTLP_COMPRESSION: \"br\" is neither none nor one of gzip, zstd";
        assert_eq!(error, wanted);
    }
}
