//! What layers inside a student bring.

use super::super::html::Text;
use super::{Report, head, line};
use crate::study::{FITTED, Layer, Seen};
use std::fmt;
use std::fmt::Write;

/// What the numbers mean.
pub(super) const DISCRIMINANTS: &str = "The mean of a map over its places, in front of a layer and behind it, as a linear \
     discriminant classifier reads it: the share of test images that it recognises. This is how letKD’s supplement asks, in its \
     table 4, whether a layer’s values help. A layer with α 0 hands its map on as it is: both sides are the same.";

impl Report {
    pub(super) fn layers(&self, out: &mut String, seen: &Seen) -> fmt::Result {
        let Some(first) = seen.layers.first() else { return Ok(()) };
        writeln!(
            out,
            "<h3>What layers inside a student bring</h3>\n<p>{}</p>\n<p class=\"quiet\">{}</p>",
            Text(&fitted(first)),
            Text(DISCRIMINANTS)
        )?;
        head(out, &["arm", "layer", "in front", "behind"])?;
        for layer in &seen.layers {
            line(out, self.series(&layer.arm), &layer.arm, &entries(layer))?;
        }
        out.push_str("</tbody></table></div>\n");
        Ok(())
    }
}

/// On which images.
pub(super) fn fitted(layer: &Layer) -> String {
    format!(
        "Fitted to {} training images, none of them augmented, and judged by {} test images (never more than {FITTED} of either).",
        layer.fitted, layer.judged
    )
}

/// The place, and both sides.
pub(super) fn entries(layer: &Layer) -> [String; 3] {
    [layer.place.clone(), format!("{:.2} %", layer.before), format!("{:.2} %", layer.behind)]
}
