use crate::Summary;
use crate::predictions::Answers;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, Result, file};
use std::path::{Path, PathBuf};

/// One finished run of one cell: what a report reads, and what is committed under `results/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Measured {
    /// The table's row.
    pub row: String,
    /// The table's column.
    pub column: String,
    /// At which size the table ran.
    pub tier: String,
    /// What the run came to.
    pub summary: Summary,
    /// Which of the test images its student recognised after the last epoch; `None` for runs that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
}

impl Measured {
    /// Where the result of a cell is kept: `<results>/<table>/<tier>/<row>-<column>-seed-<n>.json`.
    pub fn path(results: &Path, table: &str, tier: &str, row: &str, column: &str, seed: u64) -> PathBuf {
        let plain = |text: &str| -> String {
            let words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
        };
        let cell: Vec<String> =
            [row, column].into_iter().map(plain).filter(|name| !name.is_empty()).collect();
        results.join(table).join(tier).join(format!("{}-seed-{seed}.json", cell.join("-")))
    }

    /// A result that was kept, if there is one.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path)(error)),
        };
        let result = serde_json::from_slice(&text);
        result
            .map(Some)
            .map_err(|error| Error::file(path, None, error.to_string(), "restore the file, or delete it"))
    }

    /// Keeps the result, for others to read: the folders that its command names are left out.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn keep(&self, results: &Path, table: &str) -> Result<PathBuf> {
        let path = Self::path(results, table, &self.tier, &self.row, &self.column, self.summary.seed);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let mut kept = self.clone();
        for word in &mut kept.summary.environment.command {
            *word = without_folders(word);
        }
        let mut text = serde_json::to_vec_pretty(&kept)
            .map_err(|error| Error::file(&path, None, error.to_string(), "report this bug"))?;
        text.push(b'\n');
        file::write(&path, &text)?;
        Ok(path)
    }
}

/// A word of a command, of an absolute path only its last part: how a machine lays out its disks is its own affair.
fn without_folders(word: &str) -> String {
    let (key, value) = word.split_at(word.find('=').map_or(0, |at| at + 1));
    match Path::new(value).file_name() {
        Some(name) if Path::new(value).is_absolute() => format!("{key}{}", name.to_string_lossy()),
        _ => word.to_owned(),
    }
}

/// Which of a run's accuracies is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// After the last epoch.
    Last,
    /// The best epoch on the test set.
    Best,
}

impl Score {
    /// The run's accuracy, in per cent.
    pub fn of(self, run: &Measured) -> f64 {
        match self {
            Self::Last => run.summary.last.top1,
            Self::Best => run.summary.best.scores.top1,
        }
    }

    /// As every table prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best (test)",
        }
    }
}
