//! What plug-ins did, on the page.

mod distribution;
mod layer;
mod pictures;
mod policy;
mod words;

use super::html::{Dot, Text};
use super::{Report, plot};
use crate::study::{MOST, Study, TEACHER};
use std::fmt::{self, Write};

impl Report {
    /// The studies as a part of the page.
    pub(super) fn studies_as_html(&self, out: &mut String) -> fmt::Result {
        for study in &self.studies {
            let of = if self.columns.len() > 1 { format!(": {}", study.column) } else { String::new() };
            write!(
                out,
                "<h2>What the plug-ins did{}</h2>\n<p class=\"quiet\">Of seed {}, and of no other where nothing else is said: \
                 pictures of single runs, which say how a method works and not how good it is.</p>\n",
                Text(&of),
                study.seed
            )?;
            Self::unshown(out, study)?;
            self.policies(out, study)?;
            self.monitors(out, study)?;
            if let Some(seen) = &study.seen {
                self.areas(out, seen)?;
                self.attention(out, seen)?;
                self.distributions(out, seen)?;
                self.layers(out, seen)?;
            }
        }
        Ok(())
    }

    fn unshown(out: &mut String, study: &Study) -> fmt::Result {
        let problems = study.problems.iter().chain(study.seen.iter().flat_map(|seen| &seen.problems));
        let problems: Vec<&String> = problems.collect();
        if !problems.is_empty() {
            out.push_str("<div class=\"problems\"><p>Not shown:</p><ul>");
            for problem in problems {
                write!(out, "<li>{}</li>", Text(problem))?;
            }
            out.push_str("</ul></div>\n");
        }
        Ok(())
    }

    /// Which of the page's colours an arm has.
    fn series(&self, who: &str) -> usize {
        if who == TEACHER {
            return 7;
        }
        self.rows.iter().position(|row| row == who).unwrap_or(0)
    }

    fn key<'a>(&self, out: &mut String, names: impl Iterator<Item = &'a str>) -> fmt::Result {
        out.push_str("<ul class=\"key\">");
        for name in names {
            write!(out, "<li>{}{}</li>", Dot(self.series(name)), Text(name))?;
        }
        out.push_str("</ul>\n");
        Ok(())
    }
}

/// Drawings under their captions, side by side where there is room.
fn figures(out: &mut String, figures: &[(String, Option<String>)]) -> fmt::Result {
    out.push_str("<div class=\"plots\">\n");
    for (caption, drawing) in figures {
        if let Some(drawing) = drawing {
            writeln!(out, "<figure><figcaption>{}</figcaption>{drawing}</figure>", Text(caption))?;
        }
    }
    out.push_str("</div>\n");
    Ok(())
}

/// How many test images were looked at.
fn looked(images: usize, of: usize) -> String {
    if images == of {
        format!("all {of} test images")
    } else {
        format!("{images} of {of} test images, evenly spaced (never more than {MOST})")
    }
}

/// `0.031`, `2.3e−7`: three digits are enough to compare.
fn digits(value: f64) -> String {
    let text =
        if value != 0.0 && value.abs() < 1e-3 { format!("{value:.1e}") } else { format!("{value:.3}") };
    text.replace('-', "−")
}

/// A table's head.
fn head(out: &mut String, names: &[&str]) -> fmt::Result {
    out.push_str("<div class=\"wide\"><table><thead><tr>");
    for name in names {
        write!(out, "<th>{name}</th>")?;
    }
    out.push_str("</tr></thead><tbody>\n");
    Ok(())
}

/// A table's line.
fn line(out: &mut String, series: usize, name: &str, entries: &[String]) -> fmt::Result {
    write!(
        out,
        "<tr><th><i class=\"dot\" style=\"background:{}\"></i>{}</th>",
        plot::colour(series),
        Text(name)
    )?;
    for entry in entries {
        write!(out, "<td>{}</td>", Text(entry))?;
    }
    out.push_str("</tr>\n");
    Ok(())
}
