//! Small drawings of our own as SVG text, in the page's colours: lines that carry their names, clouds and boxes, which
//! the plotting library does not label directly.

use super::plot::colour;
use std::fmt::Write;

/// Width and height of a drawing, in its own units.
const SIZE: [f64; 2] = [430.0, 270.0];
/// Where the frame begins from the left.
const LEFT: f64 = 46.0;
/// Where it begins from above.
const TOP: f64 = 12.0;
/// What is left below it, for numbers and a name.
const BELOW: f64 = 40.0;

/// A line with its name.
pub struct Line<'a> {
    /// What stands at its end.
    pub name: &'a str,
    /// Which of the page's series colours it has.
    pub series: usize,
    /// From left to right.
    pub points: &'a [(f64, f64)],
}

/// From the units of data to those of the drawing.
struct Frame {
    x: [f64; 2],
    y: [f64; 2],
    right: f64,
    bottom: f64,
}

impl Frame {
    fn new(x: [f64; 2], y: [f64; 2], right: f64) -> Self {
        let wide = |[low, high]: [f64; 2]| if high > low { [low, high] } else { [low - 0.5, low + 0.5] };
        Self { x: wide(x), y: wide(y), right, bottom: SIZE[1] - BELOW }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - TOP)
    }

    fn open() -> String {
        let [width, height] = SIZE;
        format!(
            r#"<svg class="plot" role="img" viewBox="0 0 {width} {height}" fill="var(--quiet)" font-size="13">"#
        )
    }

    /// Lines across and the numbers beside them.
    fn axes(&self, svg: &mut String, whole: bool, name: &str) {
        for value in ticks(self.y, 4, false) {
            let y = self.y(value);
            let _ = write!(
                svg,
                r#"<line x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="var(--rule)"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                self.right,
                LEFT - 6.0,
                y + 4.5,
                number(value),
            );
        }
        let _ = write!(
            svg,
            r#"<line x1="{LEFT}" x2="{:.1}" y1="{1:.1}" y2="{1:.1}" stroke="var(--quiet)"/>"#,
            self.right, self.bottom
        );
        for value in ticks(self.x, 5, whole) {
            let (x, y) = (self.x(value), self.bottom);
            let _ = write!(
                svg,
                r#"<line x1="{x:.1}" x2="{x:.1}" y1="{y:.1}" y2="{:.1}" stroke="var(--quiet)"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                y + 4.0,
                y + 18.0,
                number(value),
            );
        }
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{name}</text>"#,
            f64::midpoint(LEFT, self.right),
            SIZE[1] - 5.0
        );
    }
}

/// Lines over whole numbers of what `over` says, their names at their ends; `limits` are drawn dashed. `None` where there is
/// nothing to draw.
pub fn lines(lines: &[Line<'_>], over: &str, least: [f64; 2], limits: &[f64]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| line.points).filter(|point| point.1.is_finite());
    points().next()?;
    let span = |of: fn(&(f64, f64)) -> f64, [low, high]: [f64; 2]| {
        points().map(of).fold([low, high], |[low, high], value| [low.min(value), high.max(value)])
    };
    let longest = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0).min(24);
    let right = SIZE[0] - 14.0 - 7.2 * longest as f64;
    let epochs = span(|point| point.0, [f64::INFINITY, f64::NEG_INFINITY]);
    let frame = Frame::new(epochs, rounded(span(|point| point.1, least)), right);
    let mut svg = Frame::open();
    frame.axes(&mut svg, true, over);
    for limit in limits.iter().filter(|limit| (frame.y[0]..=frame.y[1]).contains(limit)) {
        let y = frame.y(*limit);
        let _ = write!(
            svg,
            r#"<line x1="{LEFT}" x2="{right:.1}" y1="{y:.1}" y2="{y:.1}" stroke="rgb(var(--bad))" stroke-dasharray="4 3"/>"#
        );
    }
    let mut ends = Vec::new();
    for line in lines {
        let points: Vec<_> = line.points.iter().filter(|point| point.1.is_finite()).collect();
        let Some(last) = points.last() else { continue };
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let _ = write!(path, "{}{:.1},{:.1}", if at == 0 { "M" } else { "L" }, frame.x(*x), frame.y(*y));
        }
        let paint = colour(line.series);
        let _ = write!(svg, r#"<path d="{path}" fill="none" stroke="{paint}" stroke-width="1.8"/>"#);
        if points.len() == 1 {
            let _ = write!(
                svg,
                r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{paint}"/>"#,
                frame.x(last.0),
                frame.y(last.1)
            );
        }
        ends.push((frame.x(last.0), frame.y(last.1), line));
    }
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let heights = apart(&ends.iter().map(|end| end.1).collect::<Vec<_>>(), 14.5, [TOP, frame.bottom]);
    for ((x, y, line), label) in ends.iter().zip(heights) {
        let paint = colour(line.series);
        let _ = write!(
            svg,
            r#"<path d="M{x:.1},{y:.1}L{:.1},{label:.1}" fill="none" stroke="{paint}" stroke-width=".7"/><text x="{:.1}" y="{:.1}" fill="{paint}">{}</text>"#,
            right + 8.0,
            right + 11.0,
            label + 4.5,
            Name(line.name),
        );
    }
    Some(svg + "</svg>")
}

/// Clouds of points.
pub fn clouds(clouds: &[(usize, &[[f64; 2]])]) -> Option<String> {
    let points = || clouds.iter().flat_map(|(_, points)| points.iter());
    points().next()?;
    let span = |axis: usize| {
        let ends =
            points().fold([0.0f64; 2], |[low, high], point| [low.min(point[axis]), high.max(point[axis])]);
        let room = 0.04 * (ends[1] - ends[0]);
        [ends[0] - room, ends[1] + room]
    };
    let frame = Frame::new(span(0), span(1), SIZE[0] - 12.0);
    let mut svg = Frame::open();
    frame.axes(&mut svg, false, "first component; upwards the second");
    for (series, points) in clouds {
        let mut path = String::new();
        for [x, y] in *points {
            let _ = write!(path, "M{:.1},{:.1}h0", frame.x(*x), frame.y(*y));
        }
        let _ = write!(
            svg,
            r#"<path d="{path}" fill="none" stroke="{}" stroke-width="4.2" stroke-linecap="round" stroke-opacity=".5"/>"#,
            colour(*series)
        );
    }
    Some(svg + "</svg>")
}

/// A name, its colour, and values in order of size.
pub type Row<'a> = (&'a str, usize, &'a [f64]);

/// Box plots after Tukey, one below the other: quartiles, whiskers to the last value within 1.5 box lengths, and what is
/// outside as dots.
pub fn boxes(rows: &[Row<'_>]) -> Option<String> {
    let values = || rows.iter().flat_map(|row| row.2.iter().copied()).filter(|value| value.is_finite());
    values().next()?;
    let ends = values().fold([0.0f64; 2], |[low, high], value| [low.min(value), high.max(value)]);
    let frame = Frame { y: [0.0, 1.0], ..Frame::new(ends, [0.0, 1.0], SIZE[0] - 12.0) };
    let mut svg = Frame::open();
    let _ = write!(
        svg,
        r#"<line x1="{LEFT}" x2="{:.1}" y1="{1:.1}" y2="{1:.1}" stroke="var(--quiet)"/>"#,
        frame.right, frame.bottom
    );
    for value in ticks(frame.x, 6, false) {
        let x = frame.x(value);
        let _ = write!(
            svg,
            r#"<line x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{:.1}" stroke="var(--rule)"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            frame.bottom,
            frame.bottom + 18.0,
            number(value),
        );
    }
    let each = (frame.bottom - TOP) / rows.len() as f64;
    for (at, (name, series, values)) in rows.iter().enumerate() {
        let Some(tukey) = Tukey::of(values) else { continue };
        let (y, paint) = (TOP + each * (at as f64 + 0.64), colour(*series));
        let half = (each * 0.2).min(13.0);
        let [low, first, middle, third, high] =
            [tukey.whiskers[0], tukey.quartiles[0], tukey.median, tukey.quartiles[1], tukey.whiskers[1]]
                .map(|value| frame.x(value));
        let _ = write!(
            svg,
            r#"<text x="{LEFT}" y="{:.1}" fill="{paint}">{}</text><path d="M{low:.1},{y:.1}H{first:.1}M{third:.1},{y:.1}H{high:.1}" stroke="{paint}"/><rect x="{first:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{paint}" fill-opacity=".22" stroke="{paint}"/><line x1="{middle:.1}" x2="{middle:.1}" y1="{:.1}" y2="{:.1}" stroke="{paint}" stroke-width="2.2"/>"#,
            y - half - 5.0,
            Name(name),
            y - half,
            third - first,
            2.0 * half,
            y - half,
            y + half,
        );
        for value in tukey.outside {
            let _ = write!(
                svg,
                r#"<circle cx="{:.1}" cy="{y:.1}" r="2.4" fill="{paint}" fill-opacity=".6"/>"#,
                frame.x(value)
            );
        }
    }
    Some(svg + "</svg>")
}

/// The numbers of a box plot.
#[derive(Debug, PartialEq)]
struct Tukey {
    quartiles: [f64; 2],
    median: f64,
    whiskers: [f64; 2],
    outside: Vec<f64>,
}

impl Tukey {
    /// Of values in order of size.
    fn of(values: &[f64]) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        // As numpy's percentile: linear between neighbours.
        let quantile = |share: f64| {
            let place = share * last as f64;
            let low = place as usize;
            values[low] + (values[(low + 1).min(last)] - values[low]) * (place - low as f64)
        };
        let quartiles = [quantile(0.25), quantile(0.75)];
        let reach = 1.5 * (quartiles[1] - quartiles[0]);
        let inside = |value: &&f64| (quartiles[0] - reach..=quartiles[1] + reach).contains(*value);
        let whiskers =
            [values.iter().find(inside), values.iter().rev().find(inside)].map(Option::<&f64>::copied);
        Some(Self {
            median: quantile(0.5),
            whiskers: [whiskers[0].unwrap_or(quartiles[0]), whiskers[1].unwrap_or(quartiles[1])],
            outside: values.iter().filter(|value| !inside(value)).copied().collect(),
            quartiles,
        })
    }
}

/// A round number that goes into a span about as often as asked for.
fn step([low, high]: [f64; 2], about: usize) -> f64 {
    let rough = (high - low) / about as f64;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough)
}

/// The span from one round number to another that holds a span.
fn rounded([low, high]: [f64; 2]) -> [f64; 2] {
    let step = step([low, high], 4);
    [(low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step]
}

/// Round numbers in a span, about as many as asked for.
fn ticks([low, high]: [f64; 2], about: usize, whole: bool) -> Vec<f64> {
    let mut step = step([low, high], about);
    if whole {
        step = step.ceil().max(1.0);
    }
    let first = (low / step - 1e-9).ceil() as i64;
    (first..).map(|at| at as f64 * step).take_while(|value| *value <= high + 1e-9 * step).take(12).collect()
}

fn number(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 1000.0 || (size > 0.0 && size < 1e-3) => format!("{value:.0e}"),
        _ => format!("{}", (value * 1e4).round() / 1e4),
    };
    text.replace('-', "−")
}

/// Heights in order, moved as little as needed to stand at least so far from each other.
fn apart(heights: &[f64], least: f64, [top, bottom]: [f64; 2]) -> Vec<f64> {
    let least = least.min((bottom - top) / heights.len().saturating_sub(1).max(1) as f64);
    let mut placed = heights.to_vec();
    for _ in 0..60 {
        for at in 1..placed.len() {
            let lack = least - (placed[at] - placed[at - 1]);
            if lack > 0.0 {
                placed[at - 1] -= lack / 2.0;
                placed[at] += lack / 2.0;
            }
        }
        if let Some(first) = placed.first_mut() {
            *first = first.max(top);
        }
        if let Some(last) = placed.last_mut() {
            *last = last.min(bottom);
        }
    }
    placed
}

/// A name that means itself, and is not longer than its place.
struct Name<'a>(&'a str);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut name: String = self.0.chars().take(24).collect();
        if name.len() < self.0.len() {
            name.pop();
            name.push('…');
        }
        write!(out, "{}", super::html::Text(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks([0.0, 1.0], 4, false), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks([1.0, 4.0], 5, true), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(ticks([-3.0, 7.0], 5, false), [-2.0, 0.0, 2.0, 4.0, 6.0]);
    }

    #[test]
    fn labels_give_way_to_each_other() {
        let placed = apart(&[50.0, 50.0, 50.0], 10.0, [0.0, 100.0]);
        for (got, expected) in placed.iter().zip([40.0, 50.0, 60.0]) {
            assert!((got - expected).abs() < 0.1, "{placed:?}");
        }
        assert_eq!(apart(&[10.0, 90.0], 10.0, [0.0, 100.0]), [10.0, 90.0], "what has room stays");
    }

    /// By hand: quartiles 2 and 4, so whiskers reach −1 … 7.
    #[test]
    fn what_is_far_outside_the_quartilesis_a_dot() {
        let tukey = Tukey::of(&[1.0, 2.0, 3.0, 4.0, 8.0]).expect("five values");
        let expected = Tukey { quartiles: [2.0, 4.0], median: 3.0, whiskers: [1.0, 4.0], outside: vec![8.0] };
        assert_eq!(tukey, expected);
        assert_eq!(Tukey::of(&[]), None);
    }

    #[test]
    fn a_line_carries_its_name_and_nothing_that_is_markup() {
        let points = [(1.0, 0.5), (2.0, 0.25)];
        let line = Line { name: "<noise>", series: 3, points: &points };
        let svg = lines(&[line], "epoch", [0.0, 1.0], &[0.25]).expect("a line");
        assert!(svg.contains(">&lt;noise&gt;</text>") && svg.contains("stroke-dasharray"), "{svg}");
        let nothing = Line { name: "none", series: 0, points: &[] };
        assert_eq!(lines(&[nothing], "epoch", [0.0, 1.0], &[]), None);
    }
}
