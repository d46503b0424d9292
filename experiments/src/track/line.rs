use crate::Result;
use serde_json::{Map, Value};
use sokd_train::metrics;
use std::path::{Path, PathBuf};

/// A line of `metrics.jsonl`, as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Steps and passes finished in the run: the one axis on which epochs and the passes between them never meet.
    pub at: u64,
    /// Seconds that the run has worked.
    pub seconds: f64,
    /// What it says, under the names that it has there.
    pub values: Vec<(String, f64)>,
}

impl Line {
    /// `passes` are those that the lines before it have told of.
    fn of(line: &Map<String, Value>, passes: &mut u64) -> Self {
        let whole = |name: &str| line.get(name).and_then(Value::as_u64);
        *passes = whole("passes").unwrap_or(*passes);
        let number = |(name, value): (&String, &Value)| match value {
            // What is not finite is `null` there.
            Value::Null => Some((name.clone(), f64::NAN)),
            value => Some((name.clone(), value.as_f64()?)),
        };
        Self {
            at: whole("step").unwrap_or(0) + *passes,
            seconds: line.get("seconds").and_then(Value::as_f64).unwrap_or(0.0),
            values: line.iter().filter(|(name, _)| *name != "step").filter_map(number).collect(),
        }
    }
}

/// Reads a metrics file as it grows.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    from: u64,
    passes: u64,
}

impl Tail {
    /// From its beginning.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), from: 0, passes: 0 }
    }

    /// The lines that have come since the last call.
    ///
    /// # Errors
    /// A line that is no JSON object.
    pub fn more(&mut self) -> Result<Vec<Line>> {
        let (lines, next) = metrics::after(&self.path, self.from)?;
        self.from = next;
        Ok(lines.iter().map(|line| Line::of(line, &mut self.passes)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_tail_gives_every_whole_line_once() -> Result<()> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut tail = Tail::new(file.path());
        assert_eq!(tail.more()?, []);
        let pass =
            r#"{"event":"pass","epoch":1,"step":10,"passes":3,"seconds":2.5,"train/search/loss":null}"#;
        let epoch = r#"{"event":"epoch","epoch":1,"step":20,"seconds":4.5,"test/top1":12.5}"#;
        write!(file, "{pass}\n{}", &epoch[..30]).expect("written");
        let lines = tail.more()?;
        assert_eq!((lines.len(), lines[0].at, lines[0].seconds), (1, 13, 2.5));
        let (name, value) = lines[0].values.last().expect("numbers");
        assert!(name == "train/search/loss" && value.is_nan(), "{lines:?}");
        assert_eq!(tail.more()?, []);
        writeln!(file, "{}", &epoch[30..]).expect("written");
        let lines = tail.more()?;
        assert_eq!((lines.len(), lines[0].at), (1, 23), "three passes and twenty steps");
        let names: Vec<&str> = lines[0].values.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["epoch", "seconds", "test/top1"]);
        Ok(())
    }
}
