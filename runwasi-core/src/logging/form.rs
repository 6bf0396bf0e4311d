//! Forms of a line: containerd's text (that of logrus), JSON, and the datagram of systemd's
//! journal.
//!
//! ```text
//! time="2026-11-29T05:00:00.000000Z" level=info msg="container started" namespace=default …
//! {"time":"2026-11-29T05:00:00.000000Z","level":"info","msg":"container started",…}
//! PRIORITY=6⏎SYSLOG_IDENTIFIER=…⏎MESSAGE=container started namespace=default …⏎RUNWASI_NAMESPACE=default⏎…
//! ```

use std::{
    env,
    fmt::{self, Debug, Write},
    mem,
    path::Path,
    sync::Arc,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields, format,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::escape;
use crate::sanitize;

/// Prefix of our fields in the journal, whose own have none.
const JOURNAL_PREFIX: &str = "RUNWASI_";

/// Form of all lines of a log.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// As containerd and its shims write them.
    Text {
        /// containerd's name of the shim, in each line; absent in a program of its own.
        runtime: Option<&'static str>,
    },
    Json,
    Journal {
        /// Name of the program.
        program: Arc<str>,
    },
}

impl Form {
    /// The form of the journal, with the name of this program.
    pub(super) fn journal() -> Self {
        let argument = env::args_os().next().unwrap_or_default();
        let name = Path::new(&argument).file_name().unwrap_or_default().to_string_lossy();
        Self::Journal { program: name.into() }
    }

    /// The line about others that were dropped.
    pub(super) fn dropped(&self, lines: u64) -> String {
        let text = "lines of this log were dropped: its reader did not take them";
        let mut line = String::new();
        // Never an error: the writer is a string.
        let _ = self.write(&mut line, Level::WARN, |fields| {
            fields.text("message", text);
            fields.plain("lines", format_args!("{lines}"));
        });
        line
    }

    /// The line of an event outside of spans.
    pub(super) fn line(&self, event: &Event<'_>) -> String {
        let mut line = String::new();
        // Never an error: the writer is a string.
        let _ = self.write(&mut line, *event.metadata().level(), |fields| event.record(fields));
        line
    }

    /// Writes a line. `record` gives its fields, the message first; it may be called twice.
    fn write(
        &self,
        out: &mut dyn Write,
        level: Level,
        record: impl Fn(&mut Fields<'_>),
    ) -> fmt::Result {
        match self {
            Self::Text { runtime } => {
                out.write_str("time=\"")?;
                write_time(out)?;
                write!(out, "\" level={}", word(level))?;
                let mut fields = Fields::new(out, Part::Text);
                record(&mut fields);
                if let Some(runtime) = runtime {
                    fields.text("runtime", runtime);
                }
                fields.written?;
                out.write_char('\n')
            }
            Self::Json => {
                out.write_str("{\"time\":\"")?;
                write_time(out)?;
                write!(out, "\",\"level\":\"{}\"", word(level))?;
                let mut fields = Fields::new(out, Part::Json);
                record(&mut fields);
                fields.written?;
                out.write_str("}\n")
            }
            Self::Journal { program } => {
                write!(out, "PRIORITY={}\nSYSLOG_IDENTIFIER=", priority(level))?;
                escape::line(&mut &mut *out, program)?;
                out.write_str("\nMESSAGE=")?;
                let mut message = Fields::new(out, Part::JournalMessage);
                record(&mut message);
                message.written?;
                out.write_char('\n')?;
                let mut fields = Fields::new(out, Part::JournalFields);
                record(&mut fields);
                fields.written
            }
        }
    }
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let spans = spans(context);
        self.write(&mut writer, *event.metadata().level(), |fields| {
            event.record(fields);
            if !spans.is_empty() {
                fields.text("span", &spans);
            }
        })
    }
}

/// The spans around an event, from the outermost: `rpc{call=create id=web}`.
fn spans<S, N>(context: &FmtContext<'_, S, N>) -> String
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut text = String::new();
    for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
        let extensions = span.extensions();
        let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| &fields.fields);
        let separator = if text.is_empty() { "" } else { ":" };
        // Never an error: the writer is a string.
        let _ = write!(text, "{separator}{}{{{}}}", span.name(), fields.trim_start());
    }
    text
}

/// The fields of spans. All forms show them as text.
#[derive(Debug)]
pub(super) struct SpanFields;

impl<'a> FormatFields<'a> for SpanFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: format::Writer<'a>,
        fields: R,
    ) -> fmt::Result {
        let mut text = Fields::new(&mut writer, Part::Text);
        fields.record(&mut text);
        text.written
    }
}

/// Part of a line that fields are written to.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Text,
    Json,
    JournalMessage,
    JournalFields,
}

/// Writer of fields.
struct Fields<'a> {
    out: &'a mut dyn Write,
    part: Part,
    /// Texts are made here first: their escapes depend on all of them.
    scratch: String,
    /// The first error.
    written: fmt::Result,
}

impl<'a> Fields<'a> {
    fn new(out: &'a mut dyn Write, part: Part) -> Self {
        Self { out, part, scratch: String::new(), written: Ok(()) }
    }

    fn text(&mut self, name: &str, value: &str) {
        let written = self.write_text(name, &sanitize::bounded(value));
        self.written = self.written.and(written);
    }

    /// A value that needs no escapes.
    fn plain(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let written = self.write_plain(name, value);
        self.written = self.written.and(written);
    }

    fn write_text(&mut self, name: &str, value: &str) -> fmt::Result {
        match (self.part, name) {
            (Part::JournalMessage, "message") => escape::line(&mut self.out, value),
            (Part::JournalFields, "message") => Ok(()),
            (Part::Text | Part::JournalMessage, _) => {
                self.name(name)?;
                escape::word(&mut self.out, value)
            }
            (Part::Json, _) => {
                self.name(name)?;
                escape::json(&mut self.out, value)
            }
            (Part::JournalFields, _) => {
                self.name(name)?;
                escape::line(&mut self.out, value)?;
                self.out.write_char('\n')
            }
        }
    }

    fn write_plain(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        self.name(name)?;
        self.out.write_fmt(value)?;
        if self.part == Part::JournalFields { self.out.write_char('\n') } else { Ok(()) }
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        // A raw identifier has a prefix.
        let name = name.strip_prefix("r#").unwrap_or(name);
        let name = if name == "message" { "msg" } else { name };
        match self.part {
            Part::Text | Part::JournalMessage => write!(self.out, " {name}="),
            Part::Json => write!(self.out, ",\"{name}\":"),
            Part::JournalFields => {
                self.out.write_str(JOURNAL_PREFIX)?;
                for c in name.chars() {
                    let c = if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
                    self.out.write_char(c)?;
                }
                self.out.write_char('=')
            }
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = mem::take(&mut self.scratch);
        text.clear();
        // An error of the value's own: what it has written counts.
        let _ = write!(text, "{value:?}");
        self.text(field.name(), &text);
        self.scratch = text;
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field.name(), format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field.name(), format_args!("{value}"));
        } else {
            // JSON has no number for it.
            self.text(field.name(), &value.to_string());
        }
    }
}

fn write_time(out: &mut dyn Write) -> fmt::Result {
    let mut out = out;
    SystemTime.format_time(&mut format::Writer::new(&mut out))
}

/// The words of logrus.
fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The numbers of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const FORGED: &str = "x\ntime=\"2026\" level=error msg=forged container=y \"z";

    /// A line with untrusted text in all its places.
    fn line(form: &Form) -> String {
        let mut line = String::new();
        let record = |fields: &mut Fields<'_>| {
            fields.text("message", FORGED);
            fields.text("container", "web");
            fields.text("trap", FORGED);
            fields.plain("status", format_args!("{}", 134));
        };
        form.write(&mut line, Level::INFO, record).unwrap();
        line
    }

    #[test]
    fn text_is_that_of_containerd_and_cannot_be_forged() {
        let text = line(&Form::Text { runtime: Some("io.containerd.wasmtime.v1") });
        let quoted = r#""x\ntime=\"2026\" level=error msg=forged container=y \"z""#;
        let expected = format!(
            " level=info msg={quoted} container=web trap={quoted} status=134 \
             runtime=io.containerd.wasmtime.v1\n"
        );
        let (time, rest) = text.split_at(text.find(" level").unwrap());
        assert_eq!(rest, expected);
        assert!(time.starts_with("time=\"20") && time.ends_with("Z\""), "{time}");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_types_of_values() {
        let text = line(&Form::Json);
        assert_eq!(text.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["level"], "info");
        assert_eq!(object["msg"], FORGED);
        assert_eq!(object["trap"], FORGED);
        assert_eq!(object["container"], "web");
        assert_eq!(object["status"], 134);
        assert_eq!(object.as_object().unwrap().len(), 6);
    }

    #[test]
    fn datagram_of_the_journal_has_a_line_for_each_field() {
        let datagram = line(&Form::Journal { program: "wasmd\nPRIORITY=0".into() });
        let plain = r#"x\ntime="2026" level=error msg=forged container=y "z"#;
        let quoted = r#""x\ntime=\"2026\" level=error msg=forged container=y \"z""#;
        let expected = format!(
            "PRIORITY=6\nSYSLOG_IDENTIFIER=wasmd\\nPRIORITY=0\n\
             MESSAGE={plain} container=web trap={quoted} status=134\n\
             RUNWASI_CONTAINER=web\nRUNWASI_TRAP={plain}\nRUNWASI_STATUS=134\n"
        );
        assert_eq!(datagram, expected);
    }

    #[test]
    fn dropped_lines_are_told_in_the_form_of_the_log() {
        let text = Form::Text { runtime: None }.dropped(3);
        assert!(text.contains("level=warning msg=\"lines of this log were dropped"), "{text}");
        assert!(text.ends_with(" lines=3\n"), "{text}");
        let json: Value = serde_json::from_str(&Form::Json.dropped(3)).unwrap();
        assert_eq!(json["lines"], 3);
        assert!(Form::journal().dropped(3).ends_with("RUNWASI_LINES=3\n"));
    }

    #[test]
    fn long_text_keeps_its_beginning_and_its_end() {
        let mut line = String::new();
        let record = |fields: &mut Fields<'_>| fields.text("message", &"ab".repeat(1 << 20));
        Form::Json.write(&mut line, Level::INFO, record).unwrap();
        assert!(line.len() < 5000, "{}", line.len());
        assert!(line.contains("ab … ab"));
    }
}
