use super::{Report, sheet::Sheet, statistics};
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
            let lines: Vec<&[String]> = std::iter::once(&sheet.head[..])
                .chain(sheet.lines.iter().map(|line| &line.entries[..]))
                .collect();
            let wide = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..sheet.head.len()).map(wide).collect();
            for (at, line) in lines.iter().enumerate() {
                let cells = line.iter().zip(&widths).enumerate().map(|(column, (entry, &wide))| {
                    if column == 0 { format!("{entry:wide$}") } else { format!("{entry:>wide$}") }
                });
                let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  "));
                if at == 0 {
                    let _ = writeln!(
                        out,
                        "  {}",
                        "─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1))
                    );
                }
            }
            out.push('\n');
            for (arm, verdict) in self.verdicts(column) {
                let _ = writeln!(out, "  {arm} {verdict}");
            }
        }
        let _ = writeln!(out, "\n{}", wrapped(&statistics::reach(self.seeds()), 100));
        for warning in self.warnings() {
            let _ = writeln!(out, "  {warning}");
        }
        for problem in &self.problems {
            let _ = writeln!(out, "  not measured: {problem}");
        }
        out
    }
}

fn wrapped(text: &str, wide: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= wide => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
