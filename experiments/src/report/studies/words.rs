//! The studies' numbers, for Markdown and for terminals.

use super::distribution::{CAUTION, entries};
use super::layer;
use super::pictures::{SCORES, scores};
use super::{Report, digits, looked};
use crate::study::Study;
use std::fmt::Write;

impl Report {
    /// The studies' numbers as Markdown.
    pub(in crate::report) fn studies_as_markdown(&self, out: &mut String) {
        for study in &self.studies {
            let of = if self.columns.len() > 1 { format!(": {}", study.column) } else { String::new() };
            let _ = write!(
                out,
                "\n## What the plug-ins did{of}\n\nOf seed {}. The pictures are in the HTML file.\n\n",
                study.seed
            );
            for problem in study.problems.iter().chain(study.seen.iter().flat_map(|seen| &seen.problems)) {
                let _ = writeln!(out, "- not shown: {}", problem.replace('\n', " "));
            }
            for watched in &study.monitors {
                for (seed, verdict) in &watched.verdicts {
                    let _ = writeln!(out, "- **{}, seed {seed}** {}", watched.arm, verdict.sentence());
                }
            }
            numbers(out, study);
        }
    }

    /// What nobody shall overlook, in a line each.
    pub(in crate::report) fn warnings(&self) -> Vec<String> {
        let collapsed = self.studies.iter().flat_map(|study| &study.monitors).flat_map(|watched| {
            let seeds = watched.verdicts.iter().filter(|(_, verdict)| verdict.since.is_some());
            seeds.map(|(seed, _)| {
                format!("{}, seed {seed}: the detector of areas has collapsed; see the report", watched.arm)
            })
        });
        collapsed.collect()
    }
}

fn numbers(out: &mut String, study: &Study) {
    let Some(seen) = &study.seen else { return };
    let looked = looked(seen.images, seen.of);
    let scored: Vec<_> = seen.areas.iter().filter_map(|areas| Some((&areas.arm, areas.score?))).collect();
    if !scored.is_empty() {
        let _ = write!(out, "\nAreas against the true boxes, over {looked}. {SCORES}\n\n");
        out.push_str("| arm | overlap (IoU) | by chance | on another image | centres inside | by chance | on another image | verdict |\n");
        out.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
        for (arm, score) in scored {
            let _ = writeln!(out, "| {arm} | {} |", scores(&score).join(" | "));
        }
    }
    let close: Vec<_> = seen.attention.iter().filter_map(|of| Some((&of.who, of.closeness?))).collect();
    if !close.is_empty() {
        let _ = write!(out, "\nCorrelation of Grad-CAM maps with the teacher’s, over {looked}.\n\n");
        out.push_str("| arm | same image | another image | images compared |\n|---|--:|--:|--:|\n");
        for (who, close) in close {
            let (mean, chance) = (digits(close.mean), digits(close.by_chance));
            let _ = writeln!(out, "| {who} | {mean} | {chance} | {} |", close.images);
        }
    }
    if !seen.versus.is_empty() {
        let _ = write!(out, "\nEmbeddings over {looked}. {CAUTION}\n\n");
        out.push_str("| compared | components | mean D | mean p | p < 0.05 | mean Wasserstein-1 |\n|---|--:|--:|--:|--:|--:|\n");
        for versus in &seen.versus {
            let _ = writeln!(out, "| {} / {} | {} |", versus.b, versus.a, entries(versus).join(" | "));
        }
    }
    if let Some(first) = seen.layers.first() {
        let _ = write!(out, "\n{} {}\n\n", layer::DISCRIMINANTS, layer::fitted(first));
        out.push_str("| arm | layer | in front | behind |\n|---|---|--:|--:|\n");
        for of in &seen.layers {
            let _ = writeln!(out, "| {} | {} |", of.arm, layer::entries(of).join(" | "));
        }
    }
}
