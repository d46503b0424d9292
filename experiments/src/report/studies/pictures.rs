//! Areas and attention over test images.

use super::super::gallery::png;
use super::super::html::{Dot, Text};
use super::{Report, digits, head, line, looked};
use crate::study::{Heat, Overlap, Seen, Shown};
use base64::{Engine, engine::general_purpose::STANDARD};
use image::{Rgb, RgbImage};
use sokd_core::Area;
use sokd_dam::Whose;
use std::fmt::{self, Write};

/// What the scores of areas mean.
pub(super) const SCORES: &str = "Chance is what the same boxes would score at places drawn evenly, and another image what \
     they score on the next image’s true box, as a detector would that knows where things tend to be and looks at none: \
     areas no better than these are no areas of interest.";

/// The scores of areas and what they mean, in a table's order.
pub(super) fn scores(of: &Overlap) -> [String; 7] {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let ([overlap, inside], [by_chance, in_by_chance], [other, in_other]) = (of.own, of.chance, of.other);
    [
        digits(overlap),
        digits(by_chance),
        digits(other),
        percent(inside),
        percent(in_by_chance),
        percent(in_other),
        of.verdict().to_owned(),
    ]
}

impl Report {
    pub(super) fn areas(&self, out: &mut String, seen: &Seen) -> fmt::Result {
        if seen.areas.is_empty() {
            return Ok(());
        }
        let known = seen.shown.iter().any(|shown| shown.truth.is_some());
        let truth = if known { "; white and dashed, the true box" } else { "" };
        writeln!(
            out,
            "<h3>Areas over images</h3>\n<p>What each detector finds on test images, orange{truth}. Boxes lie on cells of \
             the map that it reads.</p>"
        )?;
        for areas in &seen.areas {
            let whose = match areas.whose {
                Whose::Student => "in the student’s map",
                Whose::Teacher => "in the teacher’s map",
                Whose::Both => "in the mean of both maps",
                Whose::Random => "at places drawn evenly",
            };
            let label = format!("{whose}, {:.1} boxes an image", areas.count);
            let tiles = seen.shown.iter().zip(&areas.boxes).map(|(shown, boxes)| boxed(shown, boxes));
            self.tiles(out, &areas.arm, &label, tiles)?;
        }
        let scored: Vec<_> = seen.areas.iter().filter_map(|areas| Some((areas, areas.score?))).collect();
        if scored.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "<p class=\"quiet\">Against the true boxes, over {}. {SCORES}</p>",
            looked(seen.images, seen.of)
        )?;
        let of = ["by chance", "on another image"];
        head(out, &["arm", "overlap (IoU)", of[0], of[1], "centres inside", of[0], of[1], "verdict"])?;
        for (areas, score) in scored {
            line(out, self.series(&areas.arm), &areas.arm, &scores(&score))?;
        }
        out.push_str("</tbody></table></div>\n");
        Ok(())
    }

    pub(super) fn attention(&self, out: &mut String, seen: &Seen) -> fmt::Result {
        if seen.attention.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "<h3>Where the networks look</h3>\n<p>Grad-CAM (Selvaraju et al., 2017) at the last stage’s map, for the true \
             class: bright where the class’s score grows. Each map is drawn relative to its own largest value. The number \
             is the correlation of a student’s map with the teacher’s, over cells, a mean over {}; beside it, that with the \
             teacher’s map of <i>another</i> image, which maps reach whatever an image shows.</p>",
            looked(seen.images, seen.of)
        )?;
        self.tiles(out, "", "the images", seen.shown.iter().map(|shown| boxed(shown, &[])))?;
        for attention in &seen.attention {
            let label = attention.closeness.map_or_else(String::new, |close| {
                let (mean, chance) = (digits(close.mean), digits(close.by_chance));
                format!(
                    "correlation with the teacher {mean}, with another image’s {chance} ({} images)",
                    close.images
                )
            });
            let tiles = seen.shown.iter().zip(&attention.heat).zip(&attention.right);
            let tiles = tiles.map(|((shown, heat), right)| heated(shown, heat, *right));
            self.tiles(out, &attention.who, &label, tiles)?;
        }
        out.push_str("<p class=\"quiet\">A white corner: the network does not recognise the image.</p>\n");
        Ok(())
    }

    fn tiles(
        &self,
        out: &mut String,
        who: &str,
        label: &str,
        tiles: impl Iterator<Item = String>,
    ) -> fmt::Result {
        let dot = if who.is_empty() { String::new() } else { Dot(self.series(who)).to_string() };
        write!(
            out,
            "<div class=\"tiles\"><p>{dot}<b>{}</b> <span>{}</span></p><span class=\"row\">",
            Text(who),
            Text(label)
        )?;
        tiles.for_each(|tile| out.push_str(&tile));
        out.push_str("</span></div>\n");
        Ok(())
    }
}

fn open([height, width]: [usize; 2], class: &str, png: &str) -> String {
    format!(
        r#"<svg class="picture" viewBox="0 0 {width} {height}"><title>{}</title><image width="{width}" height="{height}" preserveAspectRatio="none" href="data:image/png;base64,{png}"/>"#,
        Text(class)
    )
}

fn boxed(shown: &Shown, boxes: &[Area]) -> String {
    let mut svg = open(shown.size, &shown.class, &shown.png);
    let truth = shown.truth.iter().filter(|_| !boxes.is_empty()).map(|truth| ("truth", truth));
    for (class, Area { top, left, bottom, right }) in boxes.iter().map(|found| ("found", found)).chain(truth)
    {
        let _ = write!(
            svg,
            r#"<rect class="{class}" x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"/>"#,
            right - left,
            bottom - top
        );
    }
    svg + "</svg>"
}

fn heated(shown: &Shown, heat: &Heat, right: bool) -> String {
    let png = STANDARD.decode(&shown.png).ok().and_then(|png| over(&png, heat));
    let Some(png) = png else { return String::new() };
    let mut svg = open(shown.size, &shown.class, &STANDARD.encode(png));
    if !right {
        let [height, width] = shown.size.map(|side| side as f32);
        let _ = write!(
            svg,
            r##"<path d="M{0:.1},0H{width}V{1:.1}Z" fill="#fff"/>"##,
            width * 0.82,
            height * 0.18
        );
    }
    svg + "</svg>"
}

/// A picture in grey under its map of attention.
fn over(png_: &[u8], heat: &Heat) -> Option<Vec<u8>> {
    let mut pixels = image::load_from_memory(png_).ok()?.to_rgb8();
    let (width, height) = pixels.dimensions();
    let heat = heat.resized([height as usize, width as usize]);
    let most = heat.cells.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    for (pixel, value) in pixels.pixels_mut().zip(&heat.cells) {
        let Rgb([red, green, blue]) = *pixel;
        let grey = 0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue);
        let share = (value / most).clamp(0.0, 1.0);
        let hue = glow(share);
        *pixel = Rgb(hue.map(|hue| (grey * (1.0 - 0.72 * share.sqrt()) + hue * 0.72 * share.sqrt()) as u8));
    }
    png(&RgbImage::from_raw(width, height, pixels.into_raw())?).ok()
}

/// From violet over orange to pale yellow: lighter is more, in print and to the colour-blind too.
fn glow(share: f32) -> [f32; 3] {
    const STOPS: [[f32; 3]; 4] =
        [[40.0, 11.0, 84.0], [136.0, 34.0, 106.0], [227.0, 89.0, 51.0], [252.0, 245.0, 150.0]];
    let place = share * 3.0;
    let low = (place as usize).min(2);
    [0, 1, 2].map(|axis| STOPS[low][axis] + (STOPS[low + 1][axis] - STOPS[low][axis]) * (place - low as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One pixel without attention stays grey; the brightest takes the last colour for 72 %.
    #[test]
    fn attention_glows_over_a_grey_picture() {
        let white = png(&RgbImage::from_pixel(2, 1, Rgb([100, 100, 100]))).expect("two pixels");
        let over = over(&white, &Heat { side: [1, 2], cells: vec![0.0, 5.0] }).expect("a picture");
        let pixels = image::load_from_memory(&over).expect("a PNG").to_rgb8().into_raw();
        assert_eq!(pixels, [100, 100, 100, 209, 204, 136]);
    }
}
