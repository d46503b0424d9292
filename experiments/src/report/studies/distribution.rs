//! How embeddings are distributed.

use super::super::chart;
use super::super::html::Text;
use super::{Report, digits, figures, head, line, looked};
use crate::study::{Seen, Spread, TEACHER, Versus};
use std::fmt::{self, Write};

/// What a reader must know before the numbers.
pub(super) const CAUTION: &str = "Each network’s embeddings are brought into principal components of their own, as the \
     method’s development code does it, and components of the same rank are compared: the largest distance of their \
     distribution functions (Kolmogorov and Smirnov), how often two samples of one distribution are so far apart (p), and \
     the area between the functions (Wasserstein). A p-value averaged over components that were fitted to the very images, \
     and whose signs are a convention, describes; it tests nothing. The 0.26 that the paper prints was computed from a \
     checkpoint of its development code: it is no result to be matched here.";

impl Report {
    pub(super) fn distributions(&self, out: &mut String, seen: &Seen) -> fmt::Result {
        if seen.spreads.is_empty() {
            return Ok(());
        }
        let images = looked(seen.images, seen.of);
        writeln!(
            out,
            "<h3>How embeddings are distributed</h3>\n<p>Over {}.</p>\n<p class=\"quiet\">{}</p>",
            Text(&images),
            Text(CAUTION)
        )?;
        head(out, &["compared", "components", "mean D", "mean p", "p < 0.05", "mean Wasserstein-1"])?;
        for versus in &seen.versus {
            line(out, self.series(&versus.b), &format!("{} / {}", versus.b, versus.a), &entries(versus))?;
        }
        out.push_str("</tbody></table></div>\n");
        let spread = |who: &str| seen.spreads.iter().find(|spread| spread.who == who);
        let mut drawn: Vec<(String, Option<String>)> = Vec::new();
        let plane = |spreads: &[&Spread]| {
            let clouds: Vec<_> =
                spreads.iter().map(|spread| (self.series(&spread.who), spread.plane.as_slice())).collect();
            let shares: Vec<String> = spreads.iter().map(|spread| share(spread)).collect();
            let caption = format!("First two components, each network in its own: {}.", shares.join("; "));
            (caption, chart::clouds(&clouds))
        };
        let hosts: Vec<_> = seen.versus.iter().filter(|versus| versus.a != TEACHER).collect();
        for versus in &hosts {
            if let (Some(a), Some(b)) = (spread(&versus.a), spread(&versus.b)) {
                drawn.push(plane(&[a, b]));
            }
        }
        let students: Vec<&Spread> = seen.spreads.iter().filter(|spread| spread.who != TEACHER).collect();
        if hosts.is_empty() {
            drawn.extend(students.iter().map(|student| plane(&[student])));
        }
        let rows: Vec<chart::Row<'_>> = seen
            .spreads
            .iter()
            .map(|spread| (spread.who.as_str(), self.series(&spread.who), spread.means.as_slice()))
            .collect();
        let caption = "The mean of each feature over the images: quartiles, whiskers to the last within 1.5 box lengths, \
                       the others as dots.";
        drawn.push((caption.to_owned(), chart::boxes(&rows)));
        self.key(out, seen.spreads.iter().map(|spread| spread.who.as_str()))?;
        figures(out, &drawn)
    }
}

fn share(spread: &Spread) -> String {
    let first: f64 = spread.explained.iter().take(2).sum();
    format!("{} ({:.0} % of its variance)", spread.who, 100.0 * first)
}

/// Means over components.
pub(super) fn entries(versus: &Versus) -> [String; 5] {
    let count = versus.components.len();
    let low = versus.components.iter().filter(|of| of.p < 0.05).count();
    [
        count.to_string(),
        digits(versus.mean(|of| of.statistic)),
        digits(versus.mean(|of| of.p)),
        format!("{low} of {count}"),
        digits(versus.mean(|of| of.wasserstein)),
    ]
}
