//! One line for each runtime, over a number.

use super::axis::{Axis, shown};
use super::svg::{Anchor, Picture};
use super::{Titles, WIDTH, colour};

/// Points of one runtime, in the order of the number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How the number is spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    Linear,
    /// Twice as many is the same step everywhere.
    Doubling,
}

const HEIGHT: f64 = 380.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = HEIGHT - 56.0;
/// Between two names beside the lines.
const NAMES: f64 = 16.0;

/// The horizontal axis.
struct Across {
    scale: Scale,
    first: f64,
    last: f64,
}

impl Across {
    fn holding(scale: Scale, points: &[f64]) -> Self {
        let first = match scale {
            Scale::Linear => 0.0,
            Scale::Doubling => points.first().copied().unwrap_or(1.0),
        };
        Self { scale, first, last: points.last().copied().unwrap_or(1.0) }
    }

    fn x(&self, value: f64) -> f64 {
        let (low, value, high) = match self.scale {
            Scale::Linear => (self.first, value, self.last),
            Scale::Doubling => (self.first.log2(), value.log2(), self.last.log2()),
        };
        // One number alone stands in the middle.
        let part = if high > low { (value - low) / (high - low) } else { 0.5 };
        LEFT + (WIDTH - LEFT - RIGHT) * part
    }
}

/// The plot; without points only its axes.
pub(crate) fn lines(titles: &Titles<'_>, scale: Scale, lines: &[Line]) -> String {
    let mut picture = Picture::new(HEIGHT, titles.title);
    let mut numbers: Vec<f64> =
        lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x)).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    let across = Across::holding(scale, &numbers);
    let up = Axis::holding(lines.iter().flat_map(|line| line.points.iter().map(|(_, y)| *y)));
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * up.place(value);
    for tick in up.ticks() {
        picture.stroke((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)), "#e0e2e6");
        picture.text((LEFT - 8.0, y(tick) + 4.0), Anchor::End, &shown(tick));
    }
    for number in &numbers {
        picture.stroke((across.x(*number), BOTTOM), (across.x(*number), BOTTOM + 5.0), "#333333");
        picture.text((across.x(*number), BOTTOM + 20.0), Anchor::Middle, &shown(*number));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    picture.text((middle, BOTTOM + 42.0), Anchor::Middle, titles.across);
    picture.text_up((20.0, (TOP + BOTTOM) / 2.0), titles.up);
    for line in lines {
        let points: Vec<_> =
            line.points.iter().map(|(n, value)| (across.x(*n), y(*value))).collect();
        picture.path(&points, colour(&line.name));
    }
    for (name, place) in names(lines, y) {
        picture.bar((WIDTH - RIGHT + 10.0, place - 5.0), (10.0, 10.0), colour(name));
        picture.text((WIDTH - RIGHT + 26.0, place + 4.0), Anchor::Start, name);
    }
    picture.finish()
}

/// Each name at the end of its line, moved down where two would overlap and up at the bottom.
fn names(lines: &[Line], y: impl Fn(f64) -> f64) -> Vec<(&str, f64)> {
    let ends = lines
        .iter()
        .filter_map(|line| line.points.last().map(|(_, value)| (line.name.as_str(), y(*value))));
    let mut all: Vec<_> = ends.collect();
    all.sort_by(|one, other| one.1.total_cmp(&other.1));
    for n in 1..all.len() {
        all[n].1 = all[n].1.max(all[n - 1].1 + NAMES);
    }
    let mut lowest = BOTTOM;
    for (_, place) in all.iter_mut().rev() {
        *place = place.min(lowest);
        lowest = *place - NAMES;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: Titles<'_> = Titles { title: "memory", across: "pods", up: "MB" };

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn plots_without_points_have_axes_only() {
        for empty in [&[][..], &[line("runc", &[])]] {
            for scale in [Scale::Linear, Scale::Doubling] {
                let text = lines(&TITLES, scale, empty);
                assert!(text.contains(">pods<") && !text.contains("NaN"), "{text}");
                assert!(!text.contains("<circle") && !text.contains("<polyline"), "{text}");
            }
        }
    }

    #[test]
    fn one_point_is_a_dot_and_no_line() {
        let text = lines(&TITLES, Scale::Doubling, &[line("runc", &[(64.0, 10.0)])]);
        assert_eq!(text.matches("<circle").count(), 1);
        assert!(!text.contains("<polyline") && !text.contains("NaN"), "{text}");
        // In the middle between 84 and 570.
        assert!(text.contains("cx=\"327.0\""), "{text}");
    }

    #[test]
    fn ends_of_the_axes_hold_all_points() {
        let all = [line("a", &[(1.0, 10.0), (100.0, 97.0)]), line("b", &[(100.0, 100.0)])];
        let text = lines(&TITLES, Scale::Linear, &all);
        assert!(text.contains("<circle cx=\"570.0\" cy=\"40.0\""), "{text}");
        let doubling = Across::holding(Scale::Doubling, &[1.0, 4.0, 16.0]);
        assert_eq!([1.0, 4.0, 16.0].map(|n| doubling.x(n)), [84.0, 327.0, 570.0]);
    }

    #[test]
    fn names_do_not_overlap() {
        let all: Vec<_> =
            (0..5).map(|n| line(&n.to_string(), &[(1.0, f64::from(n) / 10.0)])).collect();
        let places = names(&all, |value| BOTTOM - value);
        assert!(places.windows(2).all(|two| two[1].1 - two[0].1 >= NAMES), "{places:?}");
        assert!(places.iter().all(|(_, place)| *place <= BOTTOM), "{places:?}");
    }
}
