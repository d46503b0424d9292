use super::{Report, best, sheet::Sheet};
use std::fmt::Write;

impl Report {
    /// The report as a terminal shows it: facts, the table, and what can be said of it.
    pub fn plain(&self) -> String {
        let mut out = format!("{}\n", self.title);
        for fact in &self.facts {
            let _ = writeln!(out, "  {fact}");
        }
        for column in &self.columns {
            let heading = if column.is_empty() { String::new() } else { format!("{column}: ") };
            let _ =
                writeln!(out, "\n{heading}top-1 in per cent, mean ± sample deviation, tier {}\n", self.tier);
            let sheet = Sheet::of(self, column);
            table(&mut out, &sheet);
            if sheet.marked() {
                let _ = writeln!(out, "\n{}", wrapped(&(best::caption("*") + "."), "  "));
            }
            out.push('\n');
            for (arm, verdict) in self.verdicts(column) {
                let _ = writeln!(out, "  {arm} {verdict}");
            }
            if let Some(tests) = Sheet::tests(self, column) {
                out.push('\n');
                table(&mut out, &tests);
                out.push('\n');
                for (test, says) in self.tests_say(column) {
                    let _ = writeln!(out, "{}", wrapped(&format!("{test}: {says}"), "  "));
                }
            }
        }
        let _ = writeln!(out, "\n{}", wrapped(&self.reach(), ""));
        for warning in self.warnings() {
            let _ = writeln!(out, "  {warning}");
        }
        for problem in self.gaps() {
            let _ = writeln!(out, "  not measured: {problem}");
        }
        out
    }
}

fn table(out: &mut String, sheet: &Sheet) {
    let entries: Vec<Vec<String>> = sheet.lines.iter().map(|line| line.marked(["", " *"])).collect();
    let lines: Vec<&[String]> =
        std::iter::once(&sheet.head[..]).chain(entries.iter().map(|line| &line[..])).collect();
    let wide = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..sheet.head.len()).map(wide).collect();
    for (at, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (entry, &wide))| {
            if column == 0 { format!("{entry:wide$}") } else { format!("{entry:>wide$}") }
        });
        let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  "));
        if at == 0 {
            let _ = writeln!(out, "  {}", "─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
        }
    }
}

fn wrapped(text: &str, indent: &str) -> String {
    textwrap::fill(text, textwrap::Options::new(100).initial_indent(indent).subsequent_indent(indent))
}
