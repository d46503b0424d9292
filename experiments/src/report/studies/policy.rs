//! The policy's history and the detector's monitor.

use super::super::chart::{self, Line};
use super::super::html::{Dot, Text};
use super::{Report, figures};
use crate::study::{Clock, Curve, DISTINCT, History, Monitor, SPREAD, Study};
use std::fmt::{self, Write};

impl Report {
    pub(super) fn policies(&self, out: &mut String, study: &Study) -> fmt::Result {
        if !study.policies.is_empty() {
            out.push_str("<h3>The policy’s history</h3>\n");
        }
        for (arm, history) in &study.policies {
            writeln!(
                out,
                "<p>{}<b>{}</b> {}</p>",
                Dot(self.series(arm)),
                Text(arm),
                Text(&preference(history))
            )?;
            let panel = |(aspect, operations): &(&str, Vec<(String, Curve)>)| {
                let lines: Vec<Line<'_>> = operations
                    .iter()
                    .enumerate()
                    .map(|(at, (name, points))| Line { name, series: at + 1, points })
                    .collect();
                let says =
                    History::ASPECTS.iter().find(|(known, _)| known == aspect).map_or("", |(_, says)| says);
                // The same scale in every report: a policy that hardly moved shall look so.
                let least = if ["probability", "drawn"].contains(aspect) { [0.0, 0.5] } else { [0.0, 1.0] };
                let over = match history.clock {
                    Clock::Epochs => "epoch",
                    Clock::Passes => "pass of the search",
                };
                (format!("{says}, by operation."), chart::lines(&lines, over, least, &[]))
            };
            figures(out, &history.aspects.iter().map(panel).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    pub(super) fn monitors(&self, out: &mut String, study: &Study) -> fmt::Result {
        if study.monitors.is_empty() {
            return Ok(());
        }
        out.push_str("<h3>Whether the detector of areas collapsed</h3>\n<ul class=\"verdicts\">\n");
        for watched in &study.monitors {
            for (seed, verdict) in &watched.verdicts {
                let mark = if verdict.since.is_some() { " class=\"collapsed\"" } else { "" };
                writeln!(
                    out,
                    "<li{mark}>{}<b>{}, seed {seed}</b> {}</li>",
                    Dot(self.series(&watched.arm)),
                    Text(&watched.arm),
                    Text(&verdict.sentence())
                )?;
            }
        }
        writeln!(
            out,
            "</ul>\n<p class=\"quiet\">Collapsed means a spread below {SPREAD} or fewer than {:.0} different sets of \
             centres for 100 images (dashed), to the end of the run. Both thresholds are ours.</p>",
            100.0 * DISTINCT
        )?;
        let panel = |(at, (reading, says)): (usize, &(&str, &str))| {
            let lines: Vec<Line<'_>> = study
                .monitors
                .iter()
                .filter_map(|watched| {
                    let points = watched.monitor.curves.get(at)?;
                    Some(Line { name: &watched.arm, series: self.series(&watched.arm), points })
                })
                .collect();
            let (least, limit) = match *reading {
                "spread" => ([0.0, 0.05], Some(SPREAD)),
                "distinct" => ([0.0, 1.0], Some(DISTINCT)),
                "size" => ([0.0, 1.0], None),
                _ => ([0.0, 0.25], None),
            };
            (format!("{says}."), chart::lines(&lines, "epoch", least, limit.as_slice()))
        };
        figures(out, &Monitor::READINGS.iter().enumerate().map(panel).collect::<Vec<_>>())
    }
}

/// What the policy came to prefer, in a sentence.
fn preference(history: &History) -> String {
    let preferred = history.preferred();
    let part = |(operation, probability): &(&str, f64)| format!("{operation} ({probability:.3})");
    if let (Clock::Passes, [first, .., last]) = (history.clock, &preferred[..]) {
        let mean = preferred.iter().map(|(_, probability)| probability).sum::<f64>() / preferred.len() as f64;
        let (most, least) = (part(first), part(last));
        return if first.1 - last.1 < HARDLY * mean {
            format!("draws operations evenly, and executes all of them alike: from {most} to {least}.")
        } else {
            format!("draws operations evenly, and came to execute {most} most and {least} least.")
        };
    }
    let [first, .., last] = &preferred[..] else {
        return "draws operations evenly: nothing was learned about them.".to_owned();
    };
    let even = 2.0 / preferred.len() as f64;
    let (first_said, last_said) = (part(first), part(last));
    let among = format!("an even draw of two among {} gives each {even:.3}", preferred.len());
    if first.1 - last.1 < HARDLY * even {
        return format!("hardly moved: from {first_said} to {last_said}, where {among}.");
    }
    format!("came to prefer {first_said} and to avoid {last_said}; {among}.")
}

/// A policy whose most and least probable operations differ by less than this part of an even draw's probability, or of the
/// mean probability where all are drawn evenly, shows no preference.
///
/// # Source
/// ours.
const HARDLY: f64 = 0.1;
