//! Plots as SVG, small enough for a telephone: 420 units wide, letters of 11 units, colours from the page's style.

use std::fmt::Write as _;

/// Width and height of a plot with axes.
pub(super) const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
/// Room for the labels of the axes.
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 12.0;

/// Text with what HTML takes for markup replaced.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A logarithmic axis that holds whole decades, or half ones where those are few.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// One that holds all positive values.
    pub(super) fn holding(values: impl Iterator<Item = f64>) -> Self {
        let logs = values.filter(|value| *value > 0.0 && value.is_finite()).map(f64::log10);
        let (low, high) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        if low > high {
            return Self { low: 0.0, high: 1.0 };
        }
        let low = (low - 0.05).floor();
        Self { low, high: (high + 0.05).ceil().max(low + 1.0) }
    }

    /// The value at its beginning.
    pub(super) fn low(self) -> f64 {
        10f64.powf(self.low)
    }

    /// The value at its end.
    pub(super) fn high(self) -> f64 {
        10f64.powf(self.high)
    }

    /// Where a value lies, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        (value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low)
    }

    /// Whole decades.
    fn ticks(self) -> impl Iterator<Item = f64> {
        let step = ((self.high - self.low) / 7.0).ceil().max(1.0);
        let count = ((self.high - self.low) / step) as usize;
        (0..=count).map(move |i| 10f64.powf(self.low + i as f64 * step))
    }
}

/// A plot with two logarithmic axes.
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    body: String,
}

impl Plot {
    /// An empty one; `ticks` makes the labels of either axis.
    pub(super) fn new(
        (x, x_name): (Axis, &str),
        (y, y_name): (Axis, &str),
        ticks: [&dyn Fn(f64) -> String; 2],
    ) -> Self {
        let mut plot = Self { x, y, body: String::new() };
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in x.ticks() {
            let (at, text) = (plot.at_x(tick), escape(&ticks[0](tick)));
            plot.push(format!("<path class=grid d='M{at:.1} {TOP}V{bottom}'/>"));
            plot.push(format!("<text x={at:.1} y={:.1} text-anchor=middle>{text}</text>", bottom + 14.0));
        }
        for tick in y.ticks() {
            let (at, text) = (plot.at_y(tick), escape(&ticks[1](tick)));
            plot.push(format!("<path class=grid d='M{LEFT} {at:.1}H{right}'/>"));
            plot.push(format!("<text x={:.1} y={:.1} text-anchor=end>{text}</text>", LEFT - 4.0, at + 4.0));
        }
        plot.push(format!(
            "<text x={:.1} y={:.1} text-anchor=middle>{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escape(x_name)
        ));
        let middle = (TOP + bottom) / 2.0;
        plot.push(format!(
            "<text transform='translate(11 {middle:.1})rotate(-90)' text-anchor=middle>{}</text>",
            escape(y_name)
        ));
        plot
    }

    fn push(&mut self, element: String) {
        self.body.push_str(&element);
        self.body.push('\n');
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value).clamp(0.0, 1.0) * (WIDTH - RIGHT - LEFT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value).clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    /// Lines through points, in a class of the style.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let path = points.iter().enumerate().fold(String::new(), |mut path, (i, &(x, y))| {
            // Writing to a string cannot fail.
            let letter = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", self.at_x(x), self.at_y(y));
            path
        });
        self.push(format!("<path class='line {class}' d='{path}'/>"));
    }

    /// A dot that says its name under the pointer.
    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64), title: &str) {
        let (x, y, title) = (self.at_x(x), self.at_y(y), escape(title));
        self.push(format!(
            "<circle class='dot {class}' cx={x:.1} cy={y:.1} r=3><title>{title}</title></circle>"
        ));
    }

    /// Words beside a point, ending there.
    pub(super) fn words(&mut self, (x, y): (f64, f64), text: &str) {
        let (x, y) = (self.at_x(x), self.at_y(y) - 5.0);
        self.push(format!("<text x={x:.1} y={y:.1} text-anchor=end>{}</text>", escape(text)));
    }

    /// The element, with a description for those who do not see it.
    pub(super) fn finish(self, description: &str) -> String {
        element(HEIGHT, description, &self.body)
    }
}

fn element(height: f64, description: &str, body: &str) -> String {
    let description = escape(description);
    format!("<svg viewBox='0 0 {WIDTH} {height:.0}' role=img aria-label=\"{description}\">\n{body}</svg>\n")
}

/// A bar: name, where it begins and ends, class, and what stands behind it.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) class: &'static str,
    pub(super) label: String,
}

/// Horizontal bars from a common zero, a line at `mark` if it is given.
pub(super) fn bars(bars: &[Bar], mark: Option<(f64, &str)>, description: &str) -> String {
    const ROW: f64 = 20.0;
    const NAMES: f64 = 138.0;
    const LABELS: f64 = 72.0;
    let longest = bars.iter().map(|bar| bar.to).fold(0.0, f64::max);
    // A mark far beyond the bars would shrink them to nothing: then it is said, not drawn.
    let drawn = mark.filter(|(value, _)| *value <= 4.0 * longest);
    let whole = drawn.map_or(longest, |(value, _)| longest.max(value)).max(f64::MIN_POSITIVE);
    let at = |value: f64| NAMES + value / whole * (WIDTH - NAMES - LABELS);
    let height = ROW * bars.len() as f64 + if drawn.is_some() { 22.0 } else { 6.0 };
    let mut body = String::new();
    for (row, bar) in bars.iter().enumerate() {
        let top = ROW * row as f64 + 3.0;
        let (start, width) =
            (at(bar.from), (at(bar.to) - at(bar.from)).max(if bar.to > bar.from { 0.5 } else { 0.0 }));
        let _ = writeln!(
            body,
            "<text x={:.1} y={:.1} text-anchor=end>{}</text><rect class='{}' x={start:.1} y={top:.1} width={width:.1} \
             height={:.1}><title>{}: {}</title></rect><text x={:.1} y={:.1}>{}</text>",
            NAMES - 6.0,
            top + 12.0,
            escape(&bar.name),
            bar.class,
            ROW - 5.0,
            escape(&bar.name),
            escape(&bar.label),
            start + width + 4.0,
            top + 12.0,
            escape(&bar.label),
        );
    }
    if let Some((value, name)) = drawn {
        let (x, bottom) = (at(value), height - 18.0);
        let _ = writeln!(
            body,
            "<path class=mark d='M{x:.1} 0V{bottom:.1}'/><text x={x:.1} y={:.1} text-anchor=middle>{}</text>",
            height - 5.0,
            escape(name)
        );
    }
    element(height, description, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_values() {
        let axis = Axis::holding([0.3, 45.0].into_iter());
        assert_eq!((axis.low, axis.high), (-1.0, 2.0));
        assert!(axis.place(0.3) > 0.0 && axis.place(45.0) < 1.0);
        assert_eq!(axis.ticks().count(), 4);
        let empty = Axis::holding(std::iter::empty());
        assert_eq!(empty.place(10.0), 1.0);
    }

    #[test]
    fn text_is_no_markup() {
        let bar = Bar { name: "<a&b>".into(), from: 0.0, to: 1.0, class: "s0", label: "\"1\"".into() };
        let svg = bars(&[bar], Some((2.0, "66 ms")), "x");
        assert!(svg.contains("&lt;a&amp;b&gt;") && !svg.contains("<a"), "{svg}");
        assert!(svg.contains("66 ms"));
        let far = Bar { name: String::new(), from: 0.0, to: 1.0, class: "s0", label: String::new() };
        assert!(!bars(&[far], Some((66.0, "66 ms")), "x").contains("66 ms"));
    }
}
