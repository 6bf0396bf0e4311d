//! One horizontal bar for each runtime.

use super::axis::{Axis, shown};
use super::svg::{Anchor, Picture};
use super::{Titles, WIDTH, colour};

/// A value, and one above it that a thin line reaches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) above: Option<f64>,
}

const LEFT: f64 = 140.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 36.0;
const ROW: f64 = 28.0;
const BELOW: f64 = 46.0;

/// The plot; without bars only its axis.
pub(crate) fn bars(titles: &Titles<'_>, bars: &[Bar]) -> String {
    let bottom = TOP + ROW * bars.len() as f64;
    let mut picture = Picture::new(bottom + BELOW, titles.title);
    let axis = Axis::holding(bars.iter().flat_map(|bar| [bar.value, bar.above.unwrap_or(0.0)]));
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * axis.place(value);
    for tick in axis.ticks() {
        picture.stroke((x(tick), TOP - 4.0), (x(tick), bottom), "#e0e2e6");
        picture.text((x(tick), bottom + 16.0), Anchor::Middle, &shown(tick));
    }
    picture.text(((LEFT + WIDTH - RIGHT) / 2.0, bottom + 36.0), Anchor::Middle, titles.across);
    for (number, Bar { name, value, above }) in bars.iter().enumerate() {
        let y = TOP + ROW * number as f64;
        picture.text((LEFT - 8.0, y + 15.0), Anchor::End, name);
        picture.bar((LEFT, y), (x(*value) - LEFT, ROW - 8.0), colour(name));
        let mut end = x(*value);
        if let Some(above) = above {
            end = end.max(x(*above));
            picture.stroke((x(*value), y + 10.0), (x(*above), y + 10.0), "#333333");
            picture.stroke((x(*above), y + 5.0), (x(*above), y + 15.0), "#333333");
        }
        picture.text((end + 6.0, y + 15.0), Anchor::Start, &shown(*value));
    }
    picture.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: Titles<'_> = Titles { title: "starts", across: "ms", up: "" };

    #[test]
    fn no_bar_is_an_empty_plot() {
        let text = bars(&TITLES, &[]);
        assert!(text.contains(">starts<") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn longest_bar_ends_within_the_axis() {
        let bar = |name: &str, value, above| Bar { name: name.to_owned(), value, above };
        let text = bars(&TITLES, &[bar("wasmtime", 50.0, Some(60.0)), bar("runc", 100.0, None)]);
        // From 140 to 630 is 0 to 100.
        assert!(text.contains("x=\"140.0\" y=\"64.0\" width=\"490.0\""), "{text}");
        assert!(text.contains("x=\"140.0\" y=\"36.0\" width=\"245.0\""), "{text}");
        assert!(text.contains(">50</text>") && text.contains(">runc</text>"), "{text}");
    }
}
