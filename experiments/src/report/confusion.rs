//! Which class a student takes for which.

use super::Report;
use super::html::Text;
use crate::predictions::Predictions;
use std::fmt::{self, Write};

/// Beyond so many classes a matrix is a carpet: the classes that are taken for each other most often are named instead.
const MATRIX: usize = 24;

/// How many of them.
const NAMED: usize = 15;

/// What a student guessed of each class's test images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// Images by their class, then by the class that they were taken for.
    pub counts: Vec<Vec<u32>>,
}

impl Confusion {
    /// Counts guesses; those of classes beyond `classes` are nobody's.
    pub fn of(predictions: &Predictions, classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (&label, &guess) in predictions.labels.iter().zip(&predictions.guesses) {
            if let Some(count) = counts.get_mut(label as usize).and_then(|row| row.get_mut(guess as usize)) {
                *count += 1;
            }
        }
        Self { counts }
    }

    /// The class, what it was taken for, how often and of how many: the most frequent first.
    pub fn most(&self) -> Vec<(usize, usize, u32, u32)> {
        let mut found: Vec<_> = (self.counts.iter().enumerate())
            .flat_map(|(class, row)| {
                let all: u32 = row.iter().sum();
                let wrong =
                    row.iter().enumerate().filter(move |&(guess, &count)| guess != class && count > 0);
                wrong.map(move |(guess, &count)| (class, guess, count, all))
            })
            .collect();
        found.sort_by_key(|&(_, _, count, _)| std::cmp::Reverse(count));
        found.truncate(NAMED);
        found
    }

    /// The same in words.
    fn said(&self, classes: &[String]) -> Vec<String> {
        let name = |class: usize| classes.get(class).map_or("?", String::as_str);
        let line = |(class, guess, count, all)| {
            format!("{} taken for {}: {count} of {all}", name(class), name(guess))
        };
        self.most().into_iter().map(line).collect()
    }
}

impl Report {
    pub(super) fn confusion_as_markdown(&self, out: &mut String) {
        let Some(confusion) = &self.confusion else { return };
        out.push_str("\n## Taken for each other\n\n");
        for line in confusion.said(&self.classes) {
            let _ = writeln!(out, "- {line}");
        }
    }

    pub(super) fn confusion_as_html(&self, out: &mut String) -> fmt::Result {
        let Some(confusion) = &self.confusion else { return Ok(()) };
        out.push_str("<h3>Taken for each other</h3>\n");
        if self.classes.len() > MATRIX {
            out.push_str("<ul class=\"quiet\">\n");
            for line in confusion.said(&self.classes) {
                writeln!(out, "<li>{}</li>", Text(&line))?;
            }
            return writeln!(out, "</ul>");
        }
        out.push_str(
            "<p class=\"quiet\">Per cent of a class’s test images, by the class that they were taken for after the last \
             epoch.</p>\n<div class=\"wide\"><table class=\"confusion\"><thead><tr><th>class</th>",
        );
        for class in &self.classes {
            write!(out, "<th><span>{}</span></th>", Text(class))?;
        }
        out.push_str("</tr></thead><tbody>\n");
        for (class, (name, row)) in self.classes.iter().zip(&confusion.counts).enumerate() {
            let all = row.iter().sum::<u32>().max(1);
            write!(out, "<tr><th>{}</th>", Text(name))?;
            for (guess, &count) in row.iter().enumerate() {
                let share = f64::from(count) / f64::from(all);
                let (hue, strength) =
                    if guess == class { ("good", 0.5 * share) } else { ("bad", share.sqrt()) };
                let shown = if count == 0 { String::new() } else { format!("{:.0}", 100.0 * share) };
                write!(out, "<td style=\"background:rgb(var(--{hue}) / {strength:.2})\">{shown}</td>")?;
            }
            out.push_str("</tr>\n");
        }
        writeln!(out, "</tbody></table></div>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_come_first_and_strangers_do_not_count() {
        let predictions = Predictions {
            of: "x".into(),
            labels: vec![0, 0, 0, 1, 1, 2, 7],
            guesses: vec![0, 1, 1, 2, 1, 9, 0],
        };
        let confusion = Confusion::of(&predictions, 3);
        assert_eq!(confusion.counts, [[1, 2, 0], [0, 1, 1], [0, 0, 0]]);
        assert_eq!(confusion.most(), [(0, 1, 2, 3), (1, 2, 1, 2)]);
        let names = ["cat", "dog", "owl"].map(String::from);
        assert_eq!(confusion.said(&names)[0], "cat taken for dog: 2 of 3");
    }
}
