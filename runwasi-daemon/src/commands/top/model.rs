//! State of the screen: the containers with their rates, the order, the filter. Pure.

use std::{
    cmp::Ordering,
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{commands::list::Row, manager::reports::UsageReport};

/// Rows of a page, for the keys that turn pages.
const PAGE: usize = 10;
/// Longest filter.
const LONGEST_FILTER: usize = 64;

/// Answers of the daemons at one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) containers: Vec<Container>,
    pub(super) daemons: usize,
    pub(super) faults: Vec<String>,
}

/// A container in a sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Container {
    pub(super) namespace: String,
    pub(super) sandbox: String,
    pub(super) id: String,
    pub(super) state: String,
    pub(super) daemon: u32,
    /// Time of its creation: another container may get the same id.
    pub(super) created: u64,
    pub(super) cpu: Duration,
    pub(super) throttled: Duration,
    pub(super) memory: u64,
    pub(super) limit: Option<u64>,
    pub(super) requests: Option<u64>,
}

/// The containers of all daemons.
pub(super) fn containers(rows: &[Row<'_>]) -> Vec<Container> {
    let of = |row: &Row<'_>| {
        let daemon = row.daemon.pid;
        let sandbox = row.sandbox;
        let one = move |container: &crate::manager::reports::ContainerReport| {
            let usage: UsageReport = container.usage.unwrap_or_default();
            let state = if container.state.is_empty() { &container.kind } else { &container.state };
            Container {
                namespace: sandbox.namespace.clone(),
                sandbox: sandbox.group.clone(),
                id: container.id.clone(),
                state: state.clone(),
                daemon,
                created: container.created,
                cpu: Duration::from_nanos(usage.cpu),
                throttled: Duration::from_nanos(usage.throttled_time),
                memory: usage.memory + usage.uncharged,
                limit: usage.limit,
                requests: usage.requests,
            }
        };
        sandbox.containers.iter().map(one).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of).collect()
}

/// A container with its rates between two samples. Without an earlier sample they are 0.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) container: Container,
    /// Percent of one CPU.
    pub(super) cpu: f64,
    /// Percent of the time that it was throttled.
    pub(super) throttled: f64,
    /// Requests per second.
    pub(super) requests: f64,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Cpu,
    Memory,
    Requests,
    Name,
}

/// A key that is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Backspace,
    Enter,
    Escape,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    Interrupt,
}

/// State of the screen.
#[derive(Default)]
pub(super) struct Model {
    pub(super) lines: Vec<Line>,
    pub(super) daemons: usize,
    pub(super) faults: Vec<String>,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// True while the filter is typed.
    pub(super) typing: bool,
    /// Number of the first line that is shown.
    pub(super) offset: usize,
    last: Option<Instant>,
}

impl Model {
    /// Takes a sample, whose rates are those since the one before.
    pub(super) fn take(&mut self, sample: Sample) {
        let Sample { at, containers, daemons, faults } = sample;
        let since = self.last.map(|last| at.saturating_duration_since(last));
        let before: HashMap<_, _> =
            self.lines.drain(..).map(|line| (key(&line.container), line.container)).collect();
        let rated = containers.into_iter().map(|container| {
            let before = before.get(&key(&container));
            line(container, before, since)
        });
        self.lines = rated.collect();
        self.last = Some(at);
        self.daemons = daemons;
        self.faults = faults;
        self.order();
    }

    /// Notes that no sample could be had.
    pub(super) fn fail(&mut self, reason: &str) {
        self.faults = vec![reason.to_owned()];
    }

    /// Acts on a key. True if it ends the program.
    pub(super) fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Interrupt => return true,
            _ if self.typing => self.type_filter(key),
            Key::Char('q') => return true,
            Key::Char(character) => self.choose(character),
            Key::Escape => self.filter.clear(),
            Key::Up => self.offset = self.offset.saturating_sub(1),
            Key::Down => self.offset += 1,
            Key::PageUp => self.offset = self.offset.saturating_sub(PAGE),
            Key::PageDown => self.offset += PAGE,
            Key::Home => self.offset = 0,
            Key::Enter | Key::Backspace => {}
        }
        self.offset = self.offset.min(self.shown().count().saturating_sub(1));
        false
    }

    fn choose(&mut self, character: char) {
        let sort = match character {
            'c' => Sort::Cpu,
            'm' => Sort::Memory,
            'r' => Sort::Requests,
            'n' => Sort::Name,
            '/' => return self.typing = true,
            'i' => {
                self.reversed = !self.reversed;
                return self.order();
            }
            _ => return,
        };
        self.sort = sort;
        self.reversed = false;
        self.order();
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(character)
                if self.filter.len() < LONGEST_FILTER && !character.is_control() =>
            {
                self.filter.push(character);
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
        self.offset = 0;
    }

    /// The lines that the filter leaves, in their order.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Line> {
        let filter = self.filter.to_lowercase();
        self.lines.iter().filter(move |line| matches(&line.container, &filter))
    }

    fn order(&mut self) {
        let sort = self.sort;
        let reversed = self.reversed;
        self.lines.sort_by(|a, b| {
            let order = compare(a, b, sort);
            if reversed { order.reverse() } else { order }
        });
    }
}

/// Identity of a container.
fn key(container: &Container) -> (String, String, u64, u32) {
    let Container { namespace, id, created, daemon, .. } = container;
    (namespace.clone(), id.clone(), *created, *daemon)
}

fn line(container: Container, before: Option<&Container>, since: Option<Duration>) -> Line {
    let seconds = since.map_or(0.0, |since| since.as_secs_f64());
    let Some(before) = before.filter(|_| seconds > 0.0) else {
        return Line { container, cpu: 0.0, throttled: 0.0, requests: 0.0 };
    };
    let percent = |now: Duration, before: Duration| {
        now.saturating_sub(before).as_secs_f64() / seconds * 100.0
    };
    let count = |container: &Container| container.requests.unwrap_or_default();
    let requests = count(&container).saturating_sub(count(before)) as f64 / seconds;
    Line {
        cpu: percent(container.cpu, before.cpu),
        throttled: percent(container.throttled, before.throttled),
        requests,
        container,
    }
}

fn matches(container: &Container, filter: &str) -> bool {
    let Container { namespace, sandbox, id, state, .. } = container;
    [namespace, sandbox, id, state].iter().any(|text| text.to_lowercase().contains(filter))
}

/// The order of two lines: the largest first, names from the beginning of the alphabet.
fn compare(a: &Line, b: &Line, sort: Sort) -> Ordering {
    let by_name = || {
        let name = |line: &Line| (line.container.namespace.clone(), line.container.id.clone());
        name(a).cmp(&name(b))
    };
    let by_value = match sort {
        // By all of the time if there is no rate yet.
        Sort::Cpu => b.cpu.total_cmp(&a.cpu).then(b.container.cpu.cmp(&a.container.cpu)),
        Sort::Memory => b.container.memory.cmp(&a.container.memory),
        Sort::Requests => b.requests.total_cmp(&a.requests),
        Sort::Name => Ordering::Equal,
    };
    by_value.then_with(by_name)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{container, sample, two_samples},
        *,
    };

    fn ids(model: &Model) -> Vec<&str> {
        model.shown().map(|line| line.container.id.as_str()).collect()
    }

    fn press(model: &mut Model, keys: &str) -> bool {
        keys.chars().any(|key| model.press(Key::Char(key)))
    }

    #[test]
    fn rates_are_those_between_two_samples() {
        let model = two_samples();
        let line = &model.lines[0];
        assert_eq!((&*line.container.id, line.cpu, line.requests), ("a", 50.0, 10.0));
        assert_eq!(model.lines[1].cpu, 0.0);
    }

    #[test]
    fn container_of_the_same_id_begins_at_zero() {
        let begun = Instant::now();
        let mut model = Model::default();
        model.take(sample(begun, vec![container("a", 5000, 1, 9)]));
        let again = Container { created: 2, ..container("a", 6000, 1, 10) };
        model.take(sample(begun + Duration::from_secs(1), vec![again]));
        assert_eq!((model.lines[0].cpu, model.lines[0].requests), (0.0, 0.0));
        // A counter that goes back, or a clock that stands.
        model.take(sample(begun + Duration::from_secs(1), vec![container("a", 1, 1, 0)]));
        assert_eq!(model.lines[0].cpu, 0.0);
    }

    #[test]
    fn keys_choose_the_order() {
        let mut model = two_samples();
        assert_eq!(ids(&model), ["a", "b"]);
        press(&mut model, "m");
        assert_eq!(ids(&model), ["b", "a"]);
        press(&mut model, "i");
        assert_eq!(ids(&model), ["a", "b"]);
        press(&mut model, "r");
        assert_eq!(ids(&model), ["a", "b"]);
        press(&mut model, "ni");
        assert_eq!(ids(&model), ["b", "a"]);
    }

    #[test]
    fn filter_is_typed_and_left() {
        let mut model = two_samples();
        // While it is typed, `q` is a letter.
        assert!(!press(&mut model, "/POD-Bq"));
        assert!(model.typing && ids(&model).is_empty());
        model.press(Key::Backspace);
        model.press(Key::Enter);
        assert_eq!((model.typing, ids(&model)), (false, vec!["b"]));
        model.press(Key::Escape);
        assert_eq!(ids(&model).len(), 2);
        press(&mut model, &format!("/{}", "x".repeat(1000)));
        assert_eq!(model.filter.len(), LONGEST_FILTER);
        assert!(model.press(Key::Interrupt));
        model.press(Key::Escape);
        assert!(press(&mut model, "q"));
    }

    #[test]
    fn the_screen_is_not_moved_beyond_the_last_line() {
        let mut model = two_samples();
        model.press(Key::PageDown);
        assert_eq!(model.offset, 1);
        model.press(Key::Up);
        model.press(Key::Up);
        assert_eq!(model.offset, 0);
    }
}
