//! Drawings as SVG text, in colours that the page defines: the one module that knows the plotting library.

use kuva::plot::{BandPlot, ForestPlot, LinePlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;
use std::fmt::Write;

/// Size of a curve plot in user units: two stand side by side on a desk, and one fills a phone legibly.
const SIZE: [f64; 2] = [470.0, 320.0];

/// A curve over epochs, with its band over seeds.
pub struct Curve {
    /// Which of the page's series colours it has.
    pub colour: usize,
    /// Epoch, mean, and half the width of the band.
    pub points: Vec<(f64, f64, f64)>,
}

/// Brings curves that leap far above their usual height down to a ceiling, which is given back: a single leap would
/// press all the rest against the floor.
pub fn lower(curves: &mut [Curve]) -> Option<f64> {
    let usual = |curve: &Curve| {
        let mut heights: Vec<f64> = curve.points.iter().map(|point| point.1).collect();
        heights.sort_by(f64::total_cmp);
        heights.get(heights.len() / 2).copied().unwrap_or(0.0)
    };
    let ceiling = 2.0 * curves.iter().map(usual).fold(0.0, f64::max);
    let above = |point: &&mut (f64, f64, f64)| point.1 + point.2 > ceiling;
    let mut lowered = false;
    for point in curves.iter_mut().flat_map(|curve| curve.points.iter_mut()).filter(above) {
        point.1 = point.1.min(ceiling);
        point.2 = point.2.min(ceiling - point.1);
        lowered = true;
    }
    lowered.then_some(ceiling)
}

/// The page's name of a series colour. The first is the baseline's grey.
pub fn colour(series: usize) -> String {
    format!("var(--series-{})", series % 8)
}

/// Curves in one frame; the page says in words what they are.
pub fn curves(curves: &[Curve], y_label: &str) -> String {
    let mut plots: Vec<Plot> = Vec::new();
    for curve in curves.iter().filter(|curve| curve.points.iter().any(|point| point.2 > 0.0)) {
        let x = curve.points.iter().map(|point| point.0);
        let low = curve.points.iter().map(|point| point.1 - point.2);
        let high = curve.points.iter().map(|point| point.1 + point.2);
        plots.push(BandPlot::new(x, low, high).with_color(colour(curve.colour)).with_opacity(0.16).into());
    }
    for curve in curves {
        let line = LinePlot::new()
            .with_data(curve.points.iter().map(|point| (point.0, point.1)))
            .with_color(colour(curve.colour))
            .with_stroke_width(1.8);
        plots.push(line.into());
    }
    let layout = framed(&plots).with_x_label("epoch").with_y_label(y_label);
    fluid(&kuva::render_to_svg(plots, layout))
}

/// A name, a gain, and half the width of its interval, by series.
pub type Row<'a> = (usize, &'a str, f64, f64);

/// Gains with their intervals, around a line at nothing gained.
pub fn gains(rows: &[Row<'_>], x_label: &str) -> String {
    let mut forest = ForestPlot::new().with_marker_size(4.5).with_whisker_width(2.0).with_cap_size(4.0);
    for &(series, name, gain, margin) in rows {
        forest = forest.with_colored_row(name, gain, gain - margin, gain + margin, colour(series));
    }
    let plots: Vec<Plot> = vec![forest.into()];
    let layout = framed(&plots).with_x_label(x_label);
    fluid(&kuva::render_to_svg(plots, layout))
}

fn framed(plots: &[Plot]) -> Layout {
    Layout::auto_from_plots(plots)
        .with_width(SIZE[0])
        .with_height(SIZE[1])
        .with_theme(theme())
        .with_font_family("inherit")
        .with_label_size(13)
        .with_tick_size(12)
        .with_axis_line_width(1.0)
        .with_grid_line_width(1.0)
}

/// One dot for each value and a bar at their mean, on a scale that a whole column shares.
pub fn strip(values: &[f64], mean: f64, scale: [f64; 2], series: usize) -> String {
    let [low, high] = scale;
    let at = |value: f64| 6.0 + 108.0 * (value - low) / (high - low).max(1e-9);
    let paint = colour(series);
    let mut svg = String::from(r#"<svg class="strip" viewBox="0 0 120 20" aria-hidden="true">"#);
    let _ = write!(svg, r#"<line x1="2" y1="10" x2="118" y2="10" stroke="var(--rule)"/>"#);
    let _ = write!(
        svg,
        r#"<line x1="{0:.1}" y1="3" x2="{0:.1}" y2="17" stroke="{paint}" stroke-width="2"/>"#,
        at(mean)
    );
    for &value in values {
        let _ = write!(
            svg,
            r#"<circle cx="{:.1}" cy="10" r="3.2" fill="{paint}" fill-opacity=".75"/>"#,
            at(value)
        );
    }
    svg + "</svg>"
}

fn theme() -> Theme {
    let ink = || "var(--quiet)".to_owned();
    Theme {
        background: "none".into(),
        axis_color: ink(),
        grid_color: "var(--rule)".into(),
        tick_color: ink(),
        text_color: ink(),
        ..Theme::light()
    }
}

/// The library fixes width and height in pixels; a page wants drawings that shrink with it.
fn fluid(svg: &str) -> String {
    let (open, rest) = svg.split_once('>').unwrap_or((svg, ""));
    let side = |name: &str| {
        let value = open.split_once(&format!(" {name}=\""))?.1;
        value.split_once('"').map(|(value, _)| value.to_owned())
    };
    match (side("width"), side("height")) {
        (Some(width), Some(height)) => {
            format!(
                r#"<svg class="plot" role="img" viewBox="0 0 {width} {height}" fill="var(--quiet)">{rest}"#
            )
        }
        _ => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_brought_down_and_nothing_else() {
        let curve = |heights: [f64; 5]| Curve {
            colour: 0,
            points: (1..).zip(heights).map(|(epoch, height)| (f64::from(epoch), height, 0.5)).collect(),
        };
        let mut curves = [curve([3.0, 25.0, 2.0, 1.5, 1.0]), curve([2.0, 2.0, 2.0, 2.0, 2.0])];
        assert_eq!(lower(&mut curves), Some(4.0));
        assert_eq!(curves[0].points[1], (2.0, 4.0, 0.0));
        assert_eq!(curves[0].points[0], (1.0, 3.0, 0.5));
        assert_eq!(lower(&mut curves), None, "what is low enough stays");
    }
}
