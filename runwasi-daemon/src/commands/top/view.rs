//! Drawing of the screen. Pure: a frame of a terminal, or of a buffer in tests.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::Line as TextLine,
    widgets::{Cell, Paragraph, Row, Table},
};

use super::model::{Line, Model, Sort};
use crate::commands::text;

/// Keys, as the last line shows them.
const KEYS: &str = "c m r n sort · i invert · / filter · ↑ ↓ move · q quit";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let faults = u16::try_from(model.faults.len()).unwrap_or(u16::MAX).min(3);
    let heights = [
        Constraint::Length(1),
        Constraint::Length(faults),
        Constraint::Min(1),
        Constraint::Length(1),
    ];
    let [head, middle, body, foot] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(Paragraph::new(summary(model)), head);
    let lines: Vec<_> =
        model.faults.iter().map(|fault| TextLine::from(text::line(fault))).collect();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(lines).style(bold), middle);
    containers(frame, model, body);
    frame.render_widget(Paragraph::new(footer(model)), foot);
}

fn summary(model: &Model) -> String {
    let sum = |of: fn(&Line) -> f64| model.lines.iter().map(of).sum::<f64>();
    let memory = model.lines.iter().map(|line| line.container.memory).sum();
    format!(
        "{} containers of {} daemons, CPU {:.1} %, memory {}, {:.1} requests/s",
        model.lines.len(),
        model.daemons,
        sum(|line| line.cpu),
        text::bytes(memory),
        sum(|line| line.requests),
    )
}

fn footer(model: &Model) -> String {
    match (model.typing, &*model.filter) {
        (true, filter) => format!("filter: {filter}_ (Enter: keep, Esc: drop)"),
        (false, "") => KEYS.to_owned(),
        (false, filter) => format!("filter: {filter} (Esc: drop) · {KEYS}"),
    }
}

fn containers(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let mark = |name: &'static str, sort: Sort| {
        let way = if model.reversed { "▲" } else { "▼" };
        if model.sort == sort { format!("{name}{way}") } else { name.to_owned() }
    };
    let plain = str::to_owned;
    let header = [
        plain("NAMESPACE"),
        mark("CONTAINER", Sort::Name),
        plain("STATE"),
        mark("CPU%", Sort::Cpu),
        plain("THROTTLED%"),
        mark("MEMORY", Sort::Memory),
        plain("LIMIT"),
        mark("REQ/S", Sort::Requests),
        plain("REQUESTS"),
    ];
    let widths = [
        Constraint::Max(12),
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(9),
    ];
    let shown = model.shown().skip(model.offset).take(area.height.into());
    let rows = shown.map(|line| Row::new(cells(line).map(Cell::from)));
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let header = Row::new(header.map(Cell::from)).style(reversed);
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

fn cells(line: &Line) -> [String; 9] {
    let container = &line.container;
    let none = || text::NONE.to_owned();
    [
        text::cell(&container.namespace),
        text::cell(&container.id),
        text::cell(&container.state),
        format!("{:.1}", line.cpu),
        format!("{:.1}", line.throttled),
        text::bytes(container.memory),
        container.limit.map_or_else(none, text::bytes),
        container.requests.map_or_else(none, |_| format!("{:.1}", line.requests)),
        container.requests.map_or_else(none, |requests| requests.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{
        super::model::{
            Container, Key,
            tests::{container, sample, two_samples},
        },
        *,
    };

    fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row: u16| {
            let cells = (0..width).map(|column| buffer[(column, row)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        };
        (0..height).map(line).collect()
    }

    #[test]
    fn containers_are_drawn_with_their_rates() {
        let mut model = two_samples();
        let lines = screen(&model, 110, 6);
        assert_eq!(lines[0], "2 containers of 1 daemons, CPU 50.0 %, memory 19 B, 10.0 requests/s");
        assert!(lines[1].starts_with("NAMESPACE") && lines[1].contains("CPU%▼"), "{lines:?}");
        let words: Vec<_> = lines[2].split_whitespace().collect();
        let wanted =
            ["default", "a", "running", "50.0", "0.0", "9", "B", "64.0", "MiB", "10.0", "30"];
        assert_eq!(words, wanted);
        assert!(lines[5].contains("q quit"), "{lines:?}");
        for key in ['m', 'i', '/', 'b'] {
            model.press(Key::Char(key));
        }
        let lines = screen(&model, 110, 6);
        assert!(lines[1].contains("MEMORY▲"), "{lines:?}");
        assert!(lines[2].contains(" b "), "{lines:?}");
        assert!(lines[5].starts_with("filter: b_"), "{lines:?}");
    }

    #[test]
    fn faults_stand_above_the_containers() {
        let mut model = two_samples();
        model.fail("daemon 7: no answer\u{1b}[2J");
        let lines = screen(&model, 80, 7);
        assert_eq!(lines[1], "daemon 7: no answer\\u{1b}[2J");
        assert!(lines[2].starts_with("NAMESPACE"), "{lines:?}");
    }

    #[test]
    fn any_size_of_a_terminal_is_drawn() {
        let mut model = two_samples();
        let odd = Container { id: "x\u{1b}\n".repeat(1000), ..container("", 0, u64::MAX / 4, 0) };
        model.take(sample(std::time::Instant::now(), vec![odd]));
        model.fail("x");
        for (width, height) in [(1, 1), (2, 3), (20, 2), (500, 100)] {
            let lines = screen(&model, width, height);
            assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
        }
    }
}
