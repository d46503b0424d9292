//! The forms in which a report leaves the program.

use super::Report;
use crate::Result;
use clap::ValueEnum;
use sokd_core::{Error, file};
use std::path::{Path, PathBuf};

/// A form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Tables and sentences, for a repository or a chat.
    Markdown,
    /// Tables for a paper (booktabs): a document by itself, and good for \input.
    Latex,
    /// One line a run.
    Csv,
    /// One line an arm: means, deviations, intervals, tests.
    CsvArms,
    /// One page that needs nothing else, with curves and pictures.
    Html,
}

impl Form {
    /// Whether it tells what plug-ins did.
    pub fn tells_studies(self) -> bool {
        matches!(self, Self::Markdown | Self::Html)
    }

    /// What its files are called after the report's own name.
    fn ending(self) -> &'static str {
        match self {
            Self::Markdown => ".md",
            Self::Latex => ".tex",
            Self::Csv => ".csv",
            Self::CsvArms => "-arms.csv",
            Self::Html => ".html",
        }
    }
}

impl Report {
    /// The report in a form.
    pub fn form(&self, form: Form) -> String {
        match form {
            Form::Markdown => self.markdown(),
            Form::Latex => self.latex(),
            Form::Csv => self.runs_as_csv(),
            Form::CsvArms => self.arms_as_csv(),
            Form::Html => self.html(),
        }
    }

    /// Writes the report beside a table's runs, in every form; gives the paths, the page's last.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let tier = if self.tier == "full" { String::new() } else { format!("-{}", self.tier) };
        self.write_as(folder, &format!("report{tier}"), Form::value_variants())
    }

    /// Some forms of it under another name.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn write_as(&self, folder: &Path, stem: &str, forms: &[Form]) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let write = |form: &Form| {
            let path = folder.join(format!("{stem}{}", form.ending()));
            file::write(&path, self.form(*form).as_bytes())?;
            Ok(path)
        };
        forms.iter().map(write).collect()
    }
}
