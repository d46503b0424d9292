//! One HTML file that needs nothing else: no script, no font, no picture from elsewhere; in light and in dark,
//! at a desk and on a phone.

use super::sheet::{LAST, Line, NOTHING, Sheet};
use super::{Arm, Measured, Report, Sample, Score, Standing, best, commit, duration, id, plot};
use crate::Epoch;
use std::fmt::{self, Display, Write};

impl Report {
    /// The report as a page.
    pub fn html(&self) -> String {
        let mut out = String::with_capacity(1 << 18);
        // Writing to a string cannot fail.
        let _ = self.page(&mut out);
        out
    }

    fn page(&self, out: &mut String) -> fmt::Result {
        let title = Text(&self.title);
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{}</style>\n</head>\n<body>\n",
            include_str!("page.css")
        )?;
        self.header(out)?;
        out.push_str("<main>\n");
        for column in &self.columns {
            self.column(out, column)?;
        }
        self.studies_as_html(out)?;
        self.reading(out)?;
        self.pictures(out)?;
        self.runs_as_html(out)?;
        self.recipes(out)?;
        write!(
            out,
            "</main>\n<footer>Written by <code>{}</code>.</footer>\n</body>\n</html>\n",
            Text(&self.command())
        )
    }

    fn header(&self, out: &mut String) -> fmt::Result {
        write!(
            out,
            "<header>\n<p class=\"eyebrow\">sokd · {}</p>\n<h1>{}</h1>\n",
            Text(&self.name),
            Text(&self.title)
        )?;
        for paragraph in self.note.trim().split("\n\n").filter(|text| !text.is_empty()) {
            writeln!(out, "<p>{}</p>", Text(paragraph))?;
        }
        for fact in &self.facts {
            writeln!(out, "<p class=\"quiet\">{}</p>", Text(fact))?;
        }
        let seconds: f64 = self.runs.iter().map(|run| run.summary.seconds).sum();
        let facts = [
            vec![
                format!("tier {}", self.tier),
                format!("{} run{}", self.runs.len(), if self.runs.len() == 1 { "" } else { "s" }),
                duration(seconds),
            ],
            self.distinct(|place| format!("{}, {} threads, {}", place.machine, place.threads, place.simd)),
            self.distinct(|place| format!("commit {}", commit(place))),
        ];
        out.push_str("<ul class=\"facts\">");
        for fact in facts.iter().flatten() {
            write!(out, "<li>{}</li>", Text(fact))?;
        }
        out.push_str("</ul>\n");
        if !self.gaps.is_empty() {
            out.push_str("<div class=\"problems\"><p>Not measured:</p><ul>");
            for problem in self.gaps() {
                write!(out, "<li>{}</li>", Text(&problem))?;
            }
            out.push_str("</ul></div>\n");
        }
        out.push_str("</header>\n");
        Ok(())
    }

    fn column(&self, out: &mut String, column: &str) -> fmt::Result {
        let arms = self.arms(column);
        let heading = if self.columns.len() > 1 { column } else { "What it shows" };
        writeln!(out, "<h2>{}</h2>", Text(heading))?;
        let verdicts = self.verdicts(column);
        if !verdicts.is_empty() {
            out.push_str("<ul class=\"verdicts\">\n");
            for (arm, verdict) in &verdicts {
                let series = self.rows.iter().position(|row| row == arm).unwrap_or(0);
                writeln!(out, "<li>{}<b>{}</b> {}</li>", Dot(series), Text(arm), Text(verdict))?;
            }
            out.push_str("</ul>\n");
        }
        let sheet = Sheet::of(self, column);
        table(out, &sheet)?;
        if sheet.marked() {
            writeln!(out, "<p class=\"quiet\">{}.</p>", Text(&best::caption("Bold")))?;
        }
        self.tests(out, column)?;
        figures(out, &arms, self.base())?;
        self.recall(out, &arms)?;
        self.confusion_as_html(out)
    }

    fn tests(&self, out: &mut String, column: &str) -> fmt::Result {
        let Some(tests) = Sheet::tests(self, column) else { return Ok(()) };
        out.push_str("<h3>Tests</h3>\n");
        table(out, &tests)?;
        out.push_str("<ul class=\"quiet\">\n");
        for (test, says) in self.tests_say(column) {
            writeln!(out, "<li><b>{}</b>: {}</li>", Text(test), Text(&says))?;
        }
        out.push_str("</ul>\n");
        Ok(())
    }

    fn recall(&self, out: &mut String, arms: &[Arm<'_>]) -> fmt::Result {
        // Beyond some dozens of classes such a table says nothing; the runs' files have the numbers.
        if self.classes.is_empty() || self.classes.len() > 24 {
            return Ok(());
        }
        let (base, others): (Vec<&Arm<'_>>, Vec<&Arm<'_>>) = arms.iter().partition(|arm| arm.base.is_none());
        let shown: Vec<(&Arm<'_>, Vec<f64>)> =
            others.into_iter().filter_map(|arm| Some((arm, arm.recall()?))).collect();
        let Some((base, recall)) = base.first().and_then(|arm| Some((arm, arm.recall()?))) else {
            return Ok(());
        };
        if shown.is_empty() {
            return Ok(());
        }
        write!(
            out,
            "<h3>Recall by class</h3>\n<p class=\"quiet\">Per cent of a class’s test images that are recognised after the \
             last epoch, mean over seeds: {}, and what each other arm changes.</p>\n\
             <div class=\"wide\"><table class=\"recall\"><thead><tr><th>class</th><th>{0}</th>",
            Text(&base.row)
        )?;
        for (arm, _) in &shown {
            write!(out, "<th>{}{}</th>", Dot(arm.series), Text(&arm.row))?;
        }
        out.push_str("</tr></thead><tbody>\n");
        for (label, class) in self.classes.iter().enumerate() {
            let before = recall.get(label).copied().unwrap_or(f64::NAN);
            write!(out, "<tr><th>{}</th><td>{before:.1}</td>", Text(class))?;
            for (_, after) in &shown {
                let change = after.get(label).copied().unwrap_or(f64::NAN) - before;
                let hue = if change < 0.0 { "bad" } else { "good" };
                let strength = (change.abs() / 40.0).min(1.0) * 0.6;
                let change = format!("{change:+.1}").replace('-', "−");
                write!(out, "<td style=\"background:rgb(var(--{hue}) / {strength:.2})\">{change}</td>")?;
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
        Ok(())
    }

    fn reading(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "<h2>How to read it</h2>\n<p>{}</p>\n<ul class=\"quiet\">", Text(&self.reach()))?;
        for (term, meaning) in self.protocol() {
            writeln!(out, "<li><b>{term}</b>: {}</li>", Text(&meaning))?;
        }
        out.push_str("</ul>\n");
        Ok(())
    }

    fn pictures(&self, out: &mut String) -> fmt::Result {
        let Some(gallery) = &self.gallery else { return Ok(()) };
        writeln!(out, "<h2>The data</h2>\n<p>{}</p>\n<div class=\"gallery\">", Text(&gallery.caption))?;
        for (class, pictures) in &gallery.classes {
            write!(out, "<div><span>{}</span><span class=\"row\">", Text(class))?;
            for picture in pictures {
                out.push_str(&picture.svg());
            }
            out.push_str("</span></div>\n");
        }
        out.push_str("</div>\n");
        Ok(())
    }

    fn runs_as_html(&self, out: &mut String) -> fmt::Result {
        if self.runs.is_empty() {
            return Ok(());
        }
        out.push_str("<h2>What was run</h2>\n<div class=\"wide\"><table><thead><tr>");
        let columned = self.columns.len() > 1;
        let heads =
            ["arm", "seed", "last", "best (test)", "at epoch", "time", "began (UTC)", "recipe", "commit"];
        for head in heads {
            write!(out, "<th>{head}</th>")?;
        }
        out.push_str("</tr></thead><tbody>\n");
        for Measured { row, column, summary, .. } in &self.runs {
            let arm = if columned { format!("{row}, {column}") } else { row.clone() };
            let entries = [
                summary.seed.to_string(),
                format!("{:.2}", summary.last.top1),
                format!("{:.2}", summary.best.scores.top1),
                format!("{} of {}", summary.best.epoch + 1, summary.epochs.len()),
                duration(summary.seconds),
                summary.environment.started.clone(),
            ];
            write!(out, "<tr><th>{}</th>", Text(&arm))?;
            for entry in &entries {
                write!(out, "<td>{}</td>", Text(entry))?;
            }
            let (recipe, commit) = (id(&summary.recipe), commit(&summary.environment));
            writeln!(
                out,
                "<td><code>{}</code></td><td><code>{}</code></td></tr>",
                Text(recipe),
                Text(&commit)
            )?;
        }
        out.push_str("</tbody></table></div>\n");
        Ok(())
    }

    fn recipes(&self, out: &mut String) -> fmt::Result {
        if self.settings.is_empty() {
            return Ok(());
        }
        out.push_str("<h2>Settings</h2>\n<p class=\"quiet\">Resolved recipes: every value that a run had, defaults included.</p>\n");
        for (heading, recipe) in &self.settings {
            writeln!(
                out,
                "<details><summary>{}</summary><pre>{}</pre></details>",
                Text(heading),
                Text(recipe.trim())
            )?;
        }
        Ok(())
    }
}

fn table(out: &mut String, sheet: &Sheet) -> fmt::Result {
    let strips = sheet.lines.iter().any(|line| line.strip.is_some());
    out.push_str("<div class=\"wide\"><table><thead><tr>");
    for (at, head) in sheet.head.iter().enumerate() {
        write!(out, "<th>{}</th>", Text(head))?;
        if at == 0 && strips {
            out.push_str("<th>seeds (last)</th>");
        }
    }
    out.push_str("</tr></thead><tbody>\n");
    for line in &sheet.lines {
        row(out, line, strips)?;
    }
    out.push_str("</tbody></table></div>\n");
    Ok(())
}

fn row(out: &mut String, line: &Line, strips: bool) -> fmt::Result {
    for (at, entry) in line.entries.iter().enumerate() {
        match (at, line.standing, entry.split_once(" (")) {
            (0, ..) => write!(out, "<tr><th>{}{}</th>", Dot(line.series), Text(entry))?,
            (LAST, Standing::Best, _) => write!(out, "<td><b>{}</b></td>", Text(entry))?,
            (LAST, Standing::Alike, _) => write!(out, "<td>{} †</td>", Text(entry))?,
            (_, _, Some((value, aside))) => {
                let aside = aside.strip_suffix(')').unwrap_or(aside);
                write!(out, "<td>{}<small>{}</small></td>", Text(value), Text(aside))?;
            }
            _ => write!(out, "<td>{}</td>", Text(entry))?,
        }
        if at == 0 && strips {
            write!(out, "<td>{}</td>", line.strip.as_deref().unwrap_or(NOTHING))?;
        }
    }
    out.push_str("</tr>\n");
    Ok(())
}

fn figures(out: &mut String, arms: &[Arm<'_>], base: &str) -> fmt::Result {
    let drawn: Vec<&Arm<'_>> =
        arms.iter().filter(|arm| arm.runs.iter().any(|run| run.summary.epochs.len() > 1)).collect();
    let curves = |of: &dyn Fn(&Epoch) -> Option<f64>| -> Vec<plot::Curve> {
        drawn.iter().map(|arm| arm.curve(of)).filter(|curve| curve.points.len() > 1).collect()
    };
    let mut figures = Vec::new();
    let mut frame = |caption: &str, curves: Vec<plot::Curve>, axis: &str| {
        if !curves.is_empty() {
            figures.push((caption.to_owned(), plot::curves(&curves, axis)));
        }
    };
    frame(
        "Top-1 on the test set by epoch: mean over seeds, band of one sample deviation.",
        curves(&|epoch| Some(epoch.test?.top1)),
        "top-1 (%)",
    );
    let mut test = curves(&|epoch| Some(epoch.test?.loss));
    let cut = plot::lower(&mut test)
        .map_or(String::new(), |top| format!(" What is above {top:.1} is drawn at {top:.1}."));
    frame(&format!("Cross-entropy on the test set.{cut}"), test, "nats");
    let losses = match arms {
        [_] => "What was minimised.",
        _ => "What each arm minimised: different sums, not to be compared with each other.",
    };
    frame(losses, curves(&|epoch| Some(epoch.train_loss)), "training loss");
    let gains: Vec<(&Arm<'_>, Sample)> =
        arms.iter().filter_map(|arm| Some((arm, arm.gain(Score::Last)?.sample))).collect();
    let rows: Vec<plot::Row<'_>> = gains
        .iter()
        .filter_map(|(arm, gain)| Some((arm.series, arm.row.as_str(), gain.mean, gain.margin()?)))
        .collect();
    if !rows.is_empty() {
        let caption = format!("Gain over {base}, last epoch, paired by seed: mean and 95 % interval.");
        figures.insert(1.min(figures.len()), (caption, plot::gains(&rows, "points")));
    }
    if figures.is_empty() {
        return Ok(());
    }
    out.push_str("<ul class=\"key\">");
    for arm in &drawn {
        write!(out, "<li>{}{}</li>", Dot(arm.series), Text(&arm.row))?;
    }
    out.push_str("</ul>\n<div class=\"plots\">\n");
    for (caption, drawing) in &figures {
        writeln!(out, "<figure><figcaption>{}</figcaption>{drawing}</figure>", Text(caption))?;
    }
    out.push_str("</div>\n");
    Ok(())
}

/// A series colour as a dot.
pub(super) struct Dot(pub usize);

impl Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<i class=\"dot\" style=\"background:{}\"></i>", plot::colour(self.0))
    }
}

/// Text that means itself.
pub(super) struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
