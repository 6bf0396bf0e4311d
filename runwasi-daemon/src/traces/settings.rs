//! Environment variables of OpenTelemetry, as far as the SDK does not read them itself.

use std::time::Duration;

use hyper::Uri;

use super::{
    connector::TlsSettings,
    requests::{check_compression, check_headers},
    variables::{VariableError, Variables, first, is_true, limit, millis, number, set},
};

/// Settings of traces by the variables.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TraceSettings {
    /// The collector.
    pub(super) endpoint: String,
    /// The variable that names it.
    pub(super) variable: &'static str,
    /// Absent for a collector without TLS.
    pub(super) tls: Option<TlsSettings>,
    /// Time limit of one request.
    pub(super) request: Duration,
    pub(super) protocol: Protocol,
    /// True if a variable names the service.
    pub(super) is_named: bool,
    /// Time in which spans are collected.
    pub(super) delay: Duration,
    /// Time limit of one export.
    pub(super) patience: Duration,
    /// Spans that may wait.
    pub(super) queue: usize,
    /// Most spans of one export.
    pub(super) batch: usize,
}

/// Protocol of the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Protobuf over HTTP.
    Http,
    /// gRPC.
    Grpc,
}

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

impl TraceSettings {
    /// Reads the variables. Nothing if they name no collector, or switch traces off.
    pub(super) fn of(variables: Variables<'_>) -> Result<Option<Self>, VariableError> {
        let is_off = is_true(variables, "OTEL_SDK_DISABLED")
            || set(variables, EXPORTER).is_some_and(|text| text == "none");
        let Some((name, endpoint)) = first(variables, ENDPOINTS).filter(|_| !is_off) else {
            return Ok(None);
        };
        let tls = match is_secure(name, &endpoint)? {
            true => Some(TlsSettings::of(variables)?),
            false => None,
        };
        check_exporter(variables)?;
        check_sampler(variables)?;
        check_headers(variables)?;
        check_compression(variables)?;
        let timeout = first(variables, TIMEOUTS).map_or(TIMEOUTS[1], |(name, _)| name);
        let queue = number(variables, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)?.clamp(1, 1 << 20);
        let batch = number(variables, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?.clamp(1, queue);
        let attributes = set(variables, "OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        Ok(Some(Self {
            endpoint,
            variable: name,
            tls,
            request: limit(variables, timeout, 10_000)?,
            protocol: protocol(variables)?,
            is_named: set(variables, "OTEL_SERVICE_NAME").is_some() || names_service(&attributes),
            delay: millis(variables, "OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
            patience: limit(variables, "OTEL_BSP_EXPORT_TIMEOUT", 30_000)?,
            queue,
            batch,
        }))
    }
}

/// True for attributes of the process that name its service.
fn names_service(attributes: &str) -> bool {
    let mut pairs = attributes.split(',').filter_map(|pair| pair.split_once('='));
    pairs.any(|(key, name)| key.trim() == "service.name" && !name.trim().is_empty())
}

/// True for a collector with TLS. An error for a URL that names no server.
fn is_secure(name: &'static str, endpoint: &str) -> Result<bool, VariableError> {
    let wrong = |reason: &str| VariableError::new(name, format!("{endpoint:?} {reason}"));
    let is_secure = endpoint.starts_with("https://");
    if !is_secure && !endpoint.starts_with("http://") {
        return Err(wrong("does not begin with http:// or https://"));
    }
    let url = endpoint.parse::<Uri>().map_err(|error| wrong(&format!("is no URL: {error}")))?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if url.host().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    // An IPv6 address in brackets has colons of its own.
    let after_host = authority.rsplit(['@', ']']).next().unwrap_or_default();
    match after_host.split_once(':') {
        Some((_, port)) if !port.parse().is_ok_and(|port: u16| port > 0) => {
            Err(wrong("has a port that is not between 1 and 65535"))
        }
        _ => Ok(is_secure),
    }
}

fn protocol(variables: Variables<'_>) -> Result<Protocol, VariableError> {
    match first(variables, PROTOCOLS) {
        None => Ok(Protocol::Http),
        Some((_, text)) if text == "http/protobuf" => Ok(Protocol::Http),
        Some((_, text)) if text == "grpc" => Ok(Protocol::Grpc),
        Some((name, text)) => {
            let reason = format!("{text:?} is none of http/protobuf, grpc");
            Err(VariableError::new(name, reason))
        }
    }
}

/// Checks that OTLP is among the exporters, if they are named: nothing goes elsewhere.
fn check_exporter(variables: Variables<'_>) -> Result<(), VariableError> {
    let Some(text) = set(variables, EXPORTER) else { return Ok(()) };
    let has_otlp = text.split(',').any(|name| name.trim() == "otlp");
    let reason = || format!("{text:?} is neither otlp nor none");
    if has_otlp { Ok(()) } else { Err(VariableError::new(EXPORTER, reason())) }
}

/// Checks the sampler, which the SDK makes of these variables: what it does not understand, it
/// replaces by recording everything, without a word.
fn check_sampler(variables: Variables<'_>) -> Result<(), VariableError> {
    let Some(sampler) = set(variables, SAMPLER) else { return Ok(()) };
    if !SAMPLERS.contains(&&*sampler) {
        let reason = format!("{sampler:?} is none of {}", SAMPLERS.join(", "));
        return Err(VariableError::new(SAMPLER, reason));
    }
    // The others have no argument.
    let Some(ratio) = set(variables, RATIO).filter(|_| sampler.ends_with("ratio")) else {
        return Ok(());
    };
    let is_ratio = ratio.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
    is_ratio.then_some(()).ok_or_else(|| {
        VariableError::new(RATIO, format!("{ratio:?} is not a number between 0 and 1"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<Option<TraceSettings>, String> {
        let variable = |name: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned)
        };
        TraceSettings::of(&variable).map_err(|error| error.to_string())
    }

    #[test]
    fn traces_are_off_without_an_endpoint_or_by_a_switch() {
        let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://here:4318";
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("OTEL_EXPORTER_OTLP_ENDPOINT="), Ok(None));
        for text in ["true", "TRUE", "True"] {
            assert_eq!(read(&format!("{endpoint}\nOTEL_SDK_DISABLED={text}")), Ok(None));
        }
        assert!(read(&format!("{endpoint}\nOTEL_SDK_DISABLED=1")).unwrap().is_some());
        assert_eq!(read(&format!("{endpoint}\nOTEL_TRACES_EXPORTER=none")), Ok(None));
        assert!(read(&format!("{endpoint}\nOTEL_TRACES_EXPORTER=console,otlp")).is_ok());
        let settings = read(endpoint).unwrap().unwrap();
        assert_eq!(
            (settings.protocol, settings.queue, settings.batch),
            (Protocol::Http, 2048, 512)
        );
        assert!(!settings.is_named && settings.delay == Duration::from_secs(5));
    }

    #[test]
    fn variables_of_traces_win_and_numbers_are_bounded() {
        let settings = read(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://general\n\
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://traces\n\
            OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nOTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc\n\
            OTEL_BSP_MAX_QUEUE_SIZE=10\nOTEL_BSP_MAX_EXPORT_BATCH_SIZE=100\n\
            OTEL_BSP_SCHEDULE_DELAY=50\nOTEL_SERVICE_NAME=node",
        );
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.endpoint, "http://traces");
        assert_eq!((settings.protocol, settings.queue, settings.batch), (Protocol::Grpc, 10, 10));
        assert!(settings.is_named && settings.delay == Duration::from_millis(50));
        assert_eq!((settings.variable, settings.tls), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None));
        let settings = read(
            "OTEL_EXPORTER_OTLP_ENDPOINT=https://x\nOTEL_EXPORTER_OTLP_TIMEOUT=20\n\
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=30",
        );
        let settings = settings.unwrap().unwrap();
        assert!(settings.tls.is_some() && settings.request == Duration::from_millis(30));
    }

    #[test]
    fn service_is_named_by_its_own_attribute() {
        for (attributes, is_named) in [
            ("service.name=node", true),
            ("a=b, service.name=node", true),
            ("peer.service.name=other", false),
            ("service.name=", false),
            ("a=service.name=b", false),
        ] {
            assert_eq!(names_service(attributes), is_named, "{attributes}");
        }
    }

    #[test]
    fn limit_of_zero_is_none() {
        let settings = read(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://x\nOTEL_EXPORTER_OTLP_TIMEOUT=0\n\
            OTEL_BSP_EXPORT_TIMEOUT=0\nOTEL_BSP_SCHEDULE_DELAY=0",
        );
        let settings = settings.unwrap().unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!((settings.request, settings.patience), (day, day));
        assert_eq!(settings.delay, Duration::ZERO);
    }

    #[test]
    fn sampler_is_known_and_its_argument_a_ratio() {
        let read = |sampler: &str, ratio: &str| {
            read(&format!(
                "OTEL_EXPORTER_OTLP_ENDPOINT=http://x\n\
                OTEL_TRACES_SAMPLER={sampler}\nOTEL_TRACES_SAMPLER_ARG={ratio}"
            ))
        };
        for sampler in SAMPLERS {
            assert!(read(sampler, "").is_ok() && read(sampler, "0.25").is_ok(), "{sampler}");
        }
        assert!(read("", "1%").is_ok() && read("always_off", "1%").is_ok(), "it is not used");
        let error = read("jaeger_remote", "").unwrap_err();
        assert!(error.starts_with("OTEL_TRACES_SAMPLER: \"jaeger_remote\" is none of"), "{error}");
        for ratio in ["1%", "2", "-0.1", "nan"] {
            let error = read("parentbased_traceidratio", ratio).unwrap_err();
            assert!(error.starts_with("OTEL_TRACES_SAMPLER_ARG: "), "{error}");
            assert!(error.ends_with("is not a number between 0 and 1"), "{error}");
        }
    }

    #[test]
    fn ports_of_collectors_are_numbers_of_16_bits() {
        let read = |rest: &str| read(&format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{rest}"));
        for rest in ["h", "h:4318/v1", "[::1]", "[::1]:4318", "u:p@h", "u:p@h:4318"] {
            assert!(read(rest).is_ok(), "{rest}");
        }
        for rest in ["h:", "h:0", "h:abc", "h:99999", "[::1]:99999", "u:p@h:99999"] {
            let error = read(rest).unwrap_err();
            assert!(error.contains("has a port that is not between 1 and 65535"), "{error}");
        }
    }

    #[test]
    fn wrong_values_are_refused_with_their_variable() {
        let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://x\n";
        for (lines, expected) in [
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT=https://x\nOTEL_EXPORTER_OTLP_CLIENT_KEY=/k",
                "OTEL_EXPORTER_OTLP_CLIENT_KEY: /k",
            ),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT=here:4317",
                "OTEL_EXPORTER_OTLP_ENDPOINT: \"here:4317\" does",
            ),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://", "OTEL_EXPORTER_OTLP_ENDPOINT: \"http://\" "),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=https://", "OTEL_EXPORTER_OTLP_ENDPOINT: \"https://\" "),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT=http://:1",
                "OTEL_EXPORTER_OTLP_ENDPOINT: \"http://:1\" ",
            ),
            (
                &format!("{endpoint}OTEL_EXPORTER_OTLP_PROTOCOL=http/json"),
                "OTEL_EXPORTER_OTLP_PROTOCOL: \"http/json\" is none of",
            ),
            (
                &format!("{endpoint}OTEL_TRACES_EXPORTER=console"),
                "OTEL_TRACES_EXPORTER: \"console\" is neither otlp nor none",
            ),
            (
                &format!("{endpoint}OTEL_EXPORTER_OTLP_HEADERS=token"),
                "OTEL_EXPORTER_OTLP_HEADERS: field 1: is not KEY=VALUE",
            ),
            (
                &format!("{endpoint}OTEL_EXPORTER_OTLP_COMPRESSION=br"),
                "OTEL_EXPORTER_OTLP_COMPRESSION: \"br\" is neither none nor",
            ),
            (
                &format!("{endpoint}OTEL_BSP_MAX_QUEUE_SIZE=-1"),
                "OTEL_BSP_MAX_QUEUE_SIZE: \"-1\" is not a whole number",
            ),
        ] {
            let error = read(lines).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
