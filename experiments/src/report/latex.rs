//! Tables for a paper: booktabs, what others printed beside what was measured, and in the caption what the numbers are.

use super::images::DRAWS;
use super::paired::printed;
use super::tex::Tex;
use super::{Arm, McNemar, Published, Report, Sample, Score, Standing, best, duration, grouped, short};
use std::fmt::Write;

/// Compiles by itself, and within a document that has begun: there `\documentclass` is an error by now.
const HEAD: &str = r"% A document by itself. A paper takes it in by \input, and needs \usepackage{booktabs} before.
\expandafter\ifx\csname @twoclasseserror\endcsname\documentclass
  \let\sokdend\relax
\else
  \documentclass{article}
  \usepackage[utf8]{inputenc}
  \usepackage{booktabs}
  \setlength{\textwidth}{18cm}
  \setlength{\oddsidemargin}{-1cm}
  \begin{document}
  \def\sokdend{\end{document}}
\fi
";

impl Report {
    /// The report as LaTeX: all columns in one table where there are several, then each by itself, with tests over images and costs.
    pub fn latex(&self) -> String {
        let mut out = format!("% Written by {}.\n{HEAD}", self.command());
        if self.columns.len() > 1 {
            self.overview(&mut out);
        }
        for (at, column) in self.columns.iter().enumerate() {
            self.detail(&mut out, column, at);
            self.images(&mut out, column, at);
            self.costs(&mut out, column, at);
        }
        out + "\n\\sokdend\n"
    }

    /// Methods down, pairs across, as papers have it; both scores.
    fn overview(&self, out: &mut String) {
        let notes = self.notes(&self.columns);
        let columns: Vec<(Vec<Arm<'_>>, Vec<Standing>)> =
            self.columns.iter().map(|column| (self.arms(column), self.standings(column))).collect();
        let wide = self.columns.len();
        self.open(out, &format!("l{}", "c".repeat(wide)), &self.columns, "all");
        let heads: Vec<String> = self.columns.iter().map(|column| heading(column)).collect();
        let _ = writeln!(out, "    method & {} \\\\", heads.join(" & "));
        for score in [Score::Last, Score::Best] {
            let _ = writeln!(
                out,
                "    \\midrule\n    \\multicolumn{{{}}}{{l}}{{\\emph{{{}}}}} \\\\",
                wide + 1,
                score.name()
            );
            for (at, row) in self.rows.iter().enumerate() {
                let cells = columns.iter().map(|(arms, standings)| {
                    let standing = if score == Score::Last { standings[at] } else { Standing::Behind };
                    let beside = beside(&arms[at], &[score], &notes);
                    let beside = if beside.is_empty() { beside } else { format!(" {beside}") };
                    mean(arms[at].sample(score), standing) + &beside
                });
                let _ = writeln!(out, "    {} & {} \\\\", Tex(row), cells.collect::<Vec<_>>().join(" & "));
            }
        }
        self.close(out, &notes);
    }

    /// One column: both scores, the gain and its tests, what others printed.
    fn detail(&self, out: &mut String, column: &str, at: usize) {
        let arms = self.arms(column);
        let notes = self.notes(&[column.to_owned()]);
        let printed_too = if notes.is_empty() { "" } else { "l" };
        self.open(out, &format!("lrcccrrr{printed_too}"), &[column.to_owned()], &at.to_string());
        let head =
            "method & $n$ & last & best (test) & gain (last), 95 \\% interval & $p_t$ & $p_t$, Holm & $p_W$";
        let _ = writeln!(
            out,
            "    {head}{} \\\\\n    \\midrule",
            if notes.is_empty() { "" } else { " & published" }
        );
        for (arm, standing) in arms.iter().zip(self.standings(column)) {
            let tests = self.compared_in(column).find(|compared| compared.row == arm.row);
            let p = |p: Option<f64>| p.map_or("--".to_owned(), |p| format!("${}$", printed(p)));
            let gain = tests.map_or("--".to_owned(), |tests| {
                let interval = tests.gain.interval().map(|[low, high]| format!(" $[{low:+.2}, {high:+.2}]$"));
                format!("${:+.2}${}", tests.gain.sample.mean, interval.unwrap_or_default())
            });
            let mut cells = vec![
                Tex(&arm.row).to_string(),
                arm.runs.len().to_string(),
                mean(arm.sample(Score::Last), standing),
                mean(arm.sample(Score::Best), Standing::Behind),
                gain,
                p(tests.and_then(|tests| Some(tests.t?.raw))),
                p(tests.and_then(|tests| Some(tests.t?.holm))),
                p(tests.and_then(|tests| Some(tests.wilcoxon?.raw))),
            ];
            if !notes.is_empty() {
                let beside = beside(arm, &[Score::Last, Score::Best], &notes);
                cells.push(if beside.is_empty() { "--".to_owned() } else { beside });
            }
            let _ = writeln!(out, "    {} \\\\", cells.join(" & "));
        }
        self.close(out, &notes);
    }

    /// What the tests over the test images say, seed by seed, where runs kept what they said of each image.
    fn images(&self, out: &mut String, column: &str, at: usize) {
        let asked = || self.compared_in(column).filter(|arm| !arm.images.is_empty());
        if asked().next().is_none() {
            return;
        }
        let caption = format!(
            "Tests over the test images{}, against {}: images that only the arm's network recognises (won) and only that of \
             the same seed beside it (lost), McNemar's exact test ($p_M$), also corrected for arms and seeds by Holm; gain with the \
             2.5 and 97.5 \\% quantiles of {} bootstrap draws of the images, mean over seeds. They speak of these networks on \
             other images, not of other seeds.",
            self.of(column),
            Tex(self.base()),
            Tex(&grouped(DRAWS)),
        );
        self.begin(out, &caption, &format!("{at}-images"), "lrrrccr");
        out.push_str(
            "    method & seed & won & lost & $p_M$ & $p_M$, Holm & gain, 95 \\% interval \\\\\n    \\midrule\n",
        );
        for arm in asked() {
            let gain =
                arm.interval.map_or("--".to_owned(), |[low, high]| format!("$[{low:+.2}, {high:+.2}]$"));
            for (line, (seed, images, p)) in arm.images.iter().enumerate() {
                let (row, gain) =
                    if line == 0 { (Tex(&arm.row).to_string(), gain.as_str()) } else { (String::new(), "") };
                let p = format!("${}$ & ${}$", printed(p.raw), printed(p.holm));
                let McNemar { won, lost } = images;
                let _ = writeln!(out, "    {row} & {seed} & {won} & {lost} & {p} & {gain} \\\\");
            }
        }
        self.close(out, &[]);
    }

    /// What an arm costs.
    fn costs(&self, out: &mut String, column: &str, at: usize) {
        let caption = format!(
            "What a run costs{}: the student's parameters and multiplications for one image, images it saw, time by the wall \
             clock and time of processors (means over seeds).",
            self.of(column)
        );
        self.begin(out, &caption, &format!("{at}-costs"), "lrrrrr");
        out.push_str(
            "    method & parameters & MACs & images seen & time & processor time \\\\\n    \\midrule\n",
        );
        for arm in &self.arms(column) {
            let network = arm.runs.first().map(|run| &run.summary.student);
            let cells = [
                network.map(|network| grouped(network.parameters as u64)),
                network.map(|network| short(network.macs as f64)),
                arm.mean(|run| run.summary.images as f64).map(|images| grouped(images as u64)),
                arm.mean(|run| run.summary.seconds).map(duration),
                arm.processor_seconds().map(duration),
            ];
            let cells = cells.map(|cell| cell.map_or("--".to_owned(), |cell| Tex(&cell).to_string()));
            let _ = writeln!(out, "    {} & {} \\\\", Tex(&arm.row), cells.join(" & "));
        }
        self.close(out, &[]);
    }

    /// Which column a table is of, where there are several.
    fn of(&self, column: &str) -> String {
        if self.columns.len() > 1 { format!(", {}", Tex(column)) } else { String::new() }
    }

    fn open(&self, out: &mut String, layout: &str, columns: &[String], label: &str) {
        let of = match columns {
            [column] if self.columns.len() > 1 => format!("{}: ", Tex(column)),
            _ => String::new(),
        };
        let stop = if self.title.ends_with(['.', '?', '!']) { "" } else { "." };
        let caption = format!("{of}{}{stop} {}", Tex(&self.title), self.caption(columns));
        self.begin(out, &caption, label, layout);
    }

    fn begin(&self, out: &mut String, caption: &str, label: &str, layout: &str) {
        let _ = write!(
            out,
            "\n\\begin{{table}}[ht]\n  \\centering\n  \\small\n  \\setlength{{\\tabcolsep}}{{4pt}}\n  \\caption{{{caption}}}\n  \
             \\label{{{}-{label}}}\n  \\begin{{tabular}}{{{layout}}}\n    \\toprule\n",
            self.label(),
        );
    }

    fn close(&self, out: &mut String, notes: &[Note<'_>]) {
        out.push_str("    \\bottomrule\n  \\end{tabular}\n");
        if !notes.is_empty() {
            out.push_str("\n  \\smallskip\n  \\begin{minipage}{0.95\\linewidth}\\footnotesize\n");
            for (at, note) in notes.iter().enumerate() {
                let Note { score, protocol, source } = note;
                let _ = writeln!(
                    out,
                    "    $^{{{}}}$ Published: {}; {}; {}.\\par",
                    letter(at),
                    score.name(),
                    Tex(protocol),
                    Tex(source.trim_end_matches('.'))
                );
            }
            if self.tier != "full" {
                out.push_str("    What is published was measured with longer runs than these.\\par\n");
            }
            out.push_str("  \\end{minipage}\n");
        }
        out.push_str("\\end{table}\n");
    }

    /// What the numbers are; the table of several columns has no tests.
    fn caption(&self, columns: &[String]) -> String {
        let count = |row: &String, column: &String| {
            self.runs.iter().filter(|run| run.row == *row && run.column == *column).count()
        };
        let counts = self.rows.iter().flat_map(|row| columns.iter().map(move |column| count(row, column)));
        let counts: Vec<usize> = counts.filter(|&n| n > 0).collect();
        let n = match (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0)) {
            (least, most) if least == most => format!("$n = {most}$"),
            (least, most) => format!("$n = {least}$ to ${most}$"),
        };
        let tests = match columns {
            [_] => format!(
                " Gains and tests are against {}, paired by seed: Student's $t$ ($p_t$), also corrected for the arms by Holm, \
                 and Wilcoxon's exact signed ranks ($p_W$).",
                Tex(self.base())
            ),
            _ => String::new(),
        };
        let marked = columns.iter().any(|column| self.standings(column).contains(&Standing::Best));
        let marks = if marked { format!(" {}.", Tex(&best::caption("Bold"))) } else { String::new() };
        format!(
            "Top-1 on the test set in per cent, mean $\\pm$ sample standard deviation ($n - 1$ in the denominator) over {n} \
             seeds, tier {}. \\emph{{last}}: after the last epoch; \\emph{{best (test)}}: the best epoch on the test set, a \
             selection on it.{tests}{marks}",
            Tex(&self.tier),
        )
    }

    fn label(&self) -> String {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        format!("tab:{}", self.name.chars().map(plain).collect::<String>())
    }

    /// Whose values stand in some columns, each once.
    fn notes(&self, columns: &[String]) -> Vec<Note<'_>> {
        let mut notes = Vec::new();
        for value in self.published.iter().filter(|value| columns.contains(&value.column)) {
            let note = Note::of(value);
            if self.rows.contains(&value.row) && !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
    }
}

/// How others came by what they printed.
#[derive(PartialEq)]
struct Note<'a> {
    score: Score,
    protocol: &'a str,
    source: &'a str,
}

impl<'a> Note<'a> {
    fn of(value: &'a Published) -> Self {
        Self { score: value.score, protocol: &value.protocol, source: &value.source }
    }
}

/// What others printed of an arm, each with the letter of its note.
fn beside(arm: &Arm<'_>, scores: &[Score], notes: &[Note<'_>]) -> String {
    let one = |value: &&Published| {
        let at = notes.iter().position(|note| *note == Note::of(value))?;
        let top1 = value.top1.map_or("not public".to_owned(), |top1| format!("{top1:.2}"));
        scores.contains(&value.score).then(|| format!("[{top1}]$^{{{}}}$", letter(at)))
    };
    arm.published.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

/// a, b, ..., and numbers after z.
fn letter(at: usize) -> String {
    u8::try_from(at)
        .ok()
        .filter(|&at| at < 26)
        .map_or_else(|| (at + 1).to_string(), |at| char::from(b'a' + at).to_string())
}

fn mean(sample: Option<Sample>, standing: Standing) -> String {
    let Some(Sample { mean, deviation, .. }) = sample else { return "--".to_owned() };
    let spread = deviation.map_or(String::new(), |deviation| format!(" \\pm {deviation:.2}"));
    match standing {
        Standing::Best => format!("$\\mathbf{{{mean:.2}{spread}}}$"),
        Standing::Alike => format!("${mean:.2}{spread}^{{\\dagger}}$"),
        Standing::Behind => format!("${mean:.2}{spread}$"),
    }
}

/// A pair in two lines, teacher over student, so that several fit beside each other.
fn heading(column: &str) -> String {
    match column.split_once(" → ") {
        Some((teacher, student)) => {
            format!(
                "\\begin{{tabular}}[b]{{@{{}}c@{{}}}}{}\\\\{}\\end{{tabular}}",
                Tex(teacher),
                Tex(student)
            )
        }
        None => Tex(column).to_string(),
    }
}
