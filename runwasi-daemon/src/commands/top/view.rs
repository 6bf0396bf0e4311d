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

const COLUMNS: [&str; 9] = [
    "NAMESPACE",
    "CONTAINER",
    "STATE",
    "CPU%",
    "THROTTLED%",
    "MEMORY",
    "LIMIT",
    "REQ/S",
    "REQUESTS",
];

const WIDTHS: [Constraint; 9] = [
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

/// Width of a terminal from which on all columns are shown, and the columns that others lack.
const WIDE: u16 = 110;
const WIDE_ONLY: [usize; 3] = [4, 6, 8];

/// The columns that it may be sorted by.
const SORTS: [(usize, Sort); 4] =
    [(1, Sort::Name), (3, Sort::Cpu), (5, Sort::Memory), (7, Sort::Requests)];

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

/// Everything as text, without a terminal.
pub(super) fn plain(model: &Model) -> String {
    let faults = model.faults.iter().map(|fault| format!("{}\n", text::line(fault)));
    // Without the spaces of units, so that columns are words.
    let row = |line: &Line| cells(line).map(|cell| cell.replace(' ', ""));
    let rows: Vec<_> = model.shown().map(row).collect();
    let table = text::table(COLUMNS, &rows);
    format!("{}\n{}{table}", summary(model), faults.collect::<String>())
}

fn summary(model: &Model) -> String {
    // Not by `sum`, by which nothing makes -0.0.
    let sum = |of: fn(&Line) -> f64| model.lines.iter().map(of).fold(0.0, |sum, one| sum + one);
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
    let way = if model.reversed { "▲" } else { "▼" };
    let mut header = COLUMNS.map(str::to_owned);
    let sorted = SORTS.iter().filter(|(_, sort)| *sort == model.sort);
    for (column, _) in sorted {
        header[*column].push_str(way);
    }
    // In a narrow terminal the name of a container has the place of these.
    let fits = |column: usize| area.width >= WIDE || !WIDE_ONLY.contains(&column);
    let columns: Vec<usize> = (0..COLUMNS.len()).filter(|column| fits(*column)).collect();
    let widths = columns.iter().map(|column| WIDTHS[*column]);
    let choose = |cells: [String; 9]| columns.iter().map(move |column| cells[*column].clone());
    let shown = model.shown().skip(model.offset).take(area.height.into());
    let rows = shown.map(|line| Row::new(choose(cells(line)).map(Cell::from)));
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let header = Row::new(choose(header).map(Cell::from)).style(reversed);
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
        super::{
            model::{Container, Key},
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
    fn narrow_terminal_has_place_for_names() {
        let lines = screen(&two_samples(), 80, 6);
        let header: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(header, ["NAMESPACE", "CONTAINER", "STATE", "CPU%▼", "MEMORY", "REQ/S"]);
        assert!(lines[2].starts_with("default      a  "), "{lines:?}");
    }

    #[test]
    fn text_has_a_word_for_each_column() {
        let text = plain(&two_samples());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("2 containers of 1 daemons"), "{text}");
        let words = |line: &str| line.split_whitespace().count();
        assert!(lines[1..].iter().all(|line| words(line) == COLUMNS.len()), "{text}");
    }

    #[test]
    fn nothing_has_no_sign() {
        let text = plain(&Model::default());
        let first = "0 containers of 0 daemons, CPU 0.0 %, memory 0 B, 0.0 requests/s\n";
        assert!(text.starts_with(first), "{text}");
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
