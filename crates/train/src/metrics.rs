//! The metrics file: a JSON object a line.

use crate::{EpochReport, Evaluation, Observer, PassReport, PhaseReport, Progress, StepReport};
use serde_json::{Map, Value};
use sokd_core::{Error, Result, file};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes what happens as lines of JSON, for `pandas.read_json(lines=True)` and the like.
///
/// A line has `event` (`epoch`, `step`, or `pass` of an interlude), `epoch` (from 0), `step` (finished in the run), and numbers under flat
/// names: `train/<phase>/loss` (weighted), `train/<phase>/<term>` (not weighted), `train/<phase>/lr`,
/// `<examination>/top1` and so on, `images` and `seconds`. What is not finite is `null`.
pub struct JsonLines {
    path: PathBuf,
    every: Option<u64>,
    file: Option<File>,
}

impl JsonLines {
    /// A line for every epoch, and one for each phase in one step of `every`.
    ///
    /// Where training begins or goes on, lines from beyond that point are cut off, a torn one among them.
    pub fn new(path: &Path, every: Option<u64>) -> Self {
        Self { path: path.to_owned(), every, file: None }
    }

    fn write(&mut self, line: &Map<String, Value>) -> Result<&File> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(append(&self.path).map_err(Error::io(&self.path))?),
        };
        let mut text = serde_json::to_vec(line).expect("a map of plain values");
        text.push(b'\n');
        file.write_all(&text).map_err(Error::io(&self.path))?;
        Ok(file)
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Observer for JsonLines {
    fn begin(&mut self, at: &Progress) -> Result<()> {
        let mut lines = read(&self.path)?;
        lines.retain(|line| {
            let number = |name| line.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
            match line.get("event").and_then(Value::as_str) {
                Some("epoch") => number("epoch") < at.epoch as u64,
                Some("pass") => number("passes") <= at.aside.passes,
                _ => number("step") <= at.steps,
            }
        });
        let mut text = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut text, line).expect("a map of plain values");
            text.push(b'\n');
        }
        self.file = None;
        file::write(&self.path, &text)
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        let Some(every) = self.every else { return Ok(()) };
        if report.interlude.is_some() || !report.at.index.is_multiple_of(every.max(1)) {
            return Ok(());
        }
        let mut line = begun("step", report.at.epoch, report.at.index + 1);
        let mut loss = 0.0;
        for term in report.terms {
            let value = f64::from(term.mean()?.to_dtype(candle::DType::F32)?.to_scalar::<f32>()?);
            loss += term.weight * value;
            line.insert(format!("train/{}/{}", report.phase, term.name), value.into());
        }
        line.insert(format!("train/{}/loss", report.phase), loss.into());
        line.insert(format!("train/{}/lr", report.phase), report.lr.into());
        self.write(&line).map(drop)
    }

    fn pass(&mut self, report: &PassReport<'_>) -> Result<()> {
        let mut line = begun("pass", report.at.epoch, report.at.steps);
        line.insert("passes".into(), report.at.aside.passes.into());
        line.insert("images".into(), report.at.images.into());
        line.insert("seconds".into(), report.at.seconds.into());
        told(&mut line, report.phase, &report.came);
        self.write(&line).map(drop)
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let mut line = begun("epoch", report.epoch, report.steps);
        line.insert("images".into(), report.images.into());
        line.insert("seconds".into(), report.seconds.into());
        for (phase, came) in &report.phases {
            told(&mut line, phase, came);
        }
        for (name, evaluation) in &report.exams {
            let Evaluation { correct, total, top1, top5, loss, ece, agreement, recall: _ } = evaluation;
            line.insert(format!("{name}/correct"), (*correct).into());
            line.insert(format!("{name}/total"), (*total).into());
            for (what, value) in [("top1", top1), ("top5", top5), ("loss", loss), ("ece", ece)] {
                line.insert(format!("{name}/{what}"), (*value).into());
            }
            if let Some(agreement) = agreement {
                line.insert(format!("{name}/agreement"), (*agreement).into());
            }
        }
        let path = self.path.clone();
        self.write(&line)?.sync_data().map_err(Error::io(&path))
    }
}

fn begun(event: &str, epoch: usize, step: u64) -> Map<String, Value> {
    Map::from_iter([
        ("event".to_owned(), event.into()),
        ("epoch".to_owned(), epoch.into()),
        ("step".to_owned(), step.into()),
    ])
}

/// What a phase came to.
fn told(line: &mut Map<String, Value>, phase: &str, came: &PhaseReport) {
    line.insert(format!("train/{phase}/loss"), came.loss.into());
    for (term, value) in &came.terms {
        line.insert(format!("train/{phase}/{term}"), (*value).into());
    }
    line.insert(format!("train/{phase}/lr"), came.lr.into());
}

/// The lines of a metrics file, none if there is no file. A last line that a crash tore is left out.
///
/// # Errors
/// [`Error::File`] for any other line that is not a JSON object, with its offset.
pub fn read(path: &Path) -> Result<Vec<Map<String, Value>>> {
    Ok(after(path, 0)?.0)
}

/// The lines of a metrics file from byte `from` on, and the byte at which the next one will begin.
///
/// # Errors
/// As [`read`].
pub fn after(path: &Path, from: u64) -> Result<(Vec<Map<String, Value>>, u64)> {
    let mut bytes = Vec::new();
    let mut open = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)
    };
    match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), from)),
        Err(error) => return Err(Error::io(path)(error)),
        Ok(_) => {}
    }
    let mut lines = Vec::new();
    let mut offset = from;
    let end = from + bytes.len() as u64;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let next = offset + line.len() as u64;
        match serde_json::from_slice(line) {
            Ok(object) if line.ends_with(b"\n") => lines.push(object),
            _ if next == end => break,
            Ok(_) => unreachable!("only a last line lacks its end"),
            Err(error) => {
                let problem = format!("a line that is no JSON object: {error}");
                return Err(Error::file(path, offset, problem, "mend or delete the line"));
            }
        }
        offset = next;
    }
    Ok((lines, offset))
}
