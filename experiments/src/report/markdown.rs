use super::{Measured, Report, best, commit, duration, id, sheet::Sheet};
use std::fmt::Write;

impl Report {
    /// The report as Markdown, without pictures.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n{}\n", self.title, self.note.trim());
        for fact in &self.facts {
            let _ = write!(out, "\n- {fact}");
        }
        let _ = writeln!(
            out,
            "\n\nTier: {}. Top-1 on the test set, in per cent: mean ± sample standard deviation (n − 1).",
            self.tier
        );
        for column in &self.columns {
            if self.columns.len() > 1 {
                let _ = writeln!(out, "\n## {column}");
            }
            out.push('\n');
            let sheet = Sheet::of(self, column);
            table(&mut out, &sheet);
            if sheet.marked() {
                let _ = writeln!(out, "\n{}.", best::caption("Bold"));
            }
            out.push('\n');
            for (arm, verdict) in self.verdicts(column) {
                let _ = writeln!(out, "- **{arm}** {verdict}");
            }
            if let Some(tests) = Sheet::tests(self, column) {
                out.push('\n');
                table(&mut out, &tests);
                out.push('\n');
                for (test, says) in self.tests_say(column) {
                    let _ = writeln!(out, "- **{test}**: {says}");
                }
            }
        }
        let _ = writeln!(out, "\n{}\n", self.reach());
        for (term, meaning) in self.protocol() {
            let _ = writeln!(out, "- **{term}**: {meaning}");
        }
        self.confusion_as_markdown(&mut out);
        if !self.gaps.is_empty() {
            out.push_str("\n## Not measured\n\n");
            for problem in self.gaps() {
                let _ = writeln!(out, "- {}", problem.replace('\n', " "));
            }
        }
        self.studies_as_markdown(&mut out);
        self.runs_as_markdown(&mut out);
        out
    }

    fn runs_as_markdown(&self, out: &mut String) {
        if self.runs.is_empty() {
            return;
        }
        out.push_str("\n## What was run\n\n| arm | column | seed | last | best (test) | time | recipe | commit | machine |\n");
        out.push_str("|---|---|--:|--:|--:|--:|---|---|---|\n");
        for Measured { row, column, summary, .. } in &self.runs {
            let place = &summary.environment;
            let _ = writeln!(
                out,
                "| {row} | {column} | {} | {:.2} | {:.2} | {} | `{}` | `{}` | {}, {} threads, {} |",
                summary.seed,
                summary.last.top1,
                summary.best.scores.top1,
                duration(summary.seconds),
                id(&summary.recipe),
                commit(place),
                place.machine,
                place.threads,
                place.started,
            );
        }
    }
}

fn table(out: &mut String, sheet: &Sheet) {
    let line = |entries: &[String]| {
        let safe: Vec<String> = entries.iter().map(|entry| entry.replace('|', "\\|")).collect();
        format!("| {} |\n", safe.join(" | "))
    };
    out.push_str(&line(&sheet.head));
    out.push_str("|---|");
    out.push_str(&"--:|".repeat(sheet.head.len() - 1));
    out.push('\n');
    for row in &sheet.lines {
        out.push_str(&line(&row.marked(["**", "**"])));
    }
}
