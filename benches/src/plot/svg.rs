//! Text and shapes of a picture; used by `bars` and `lines`.

use super::WIDTH;

/// A picture in the making, as wide as all of them.
pub(super) struct Picture {
    text: String,
    height: f64,
}

/// Where a text stands to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Picture {
    pub(super) fn new(height: f64, title: &str) -> Self {
        let mut picture = Self { text: String::new(), height };
        picture.add(format_args!(
            "<text x=\"12\" y=\"22\" font-weight=\"bold\">{}</text>",
            escaped(title)
        ));
        picture
    }

    fn add(&mut self, shape: std::fmt::Arguments<'_>) {
        self.text.push_str(&format!("{shape}\n"));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A text that goes upwards beside the vertical axis.
    pub(super) fn text_up(&mut self, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\">{text}</text>"
        ));
    }

    pub(super) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    pub(super) fn stroke(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        ));
    }

    /// A line through points, each with a dot.
    pub(super) fn path(&mut self, points: &[(f64, f64)], colour: &str) {
        let list: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        if points.len() > 1 {
            self.add(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                list.join(" ")
            ));
        }
        for (x, y) in points {
            self.add(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            ));
        }
    }

    /// The whole file.
    pub(super) fn finish(self) -> String {
        let Self { text, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{text}</svg>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_a_shape() {
        let mut picture = Picture::new(40.0, "a < b & c");
        picture.text((1.0, 2.0), Anchor::End, "<g>");
        let text = picture.finish();
        assert!(text.contains("a &lt; b &amp; c") && text.contains(">&lt;g&gt;<"), "{text}");
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
    }
}
