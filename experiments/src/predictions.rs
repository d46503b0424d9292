//! What a student says of the test images after its last epoch: kept beside the run, so that networks can be compared
//! image by image without being asked again.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sokd_core::{Backbone, Batches, Error, Result};
use std::path::Path;

/// Where a run keeps it.
pub const FILE: &str = "predictions.json";

/// A student's guess for each test image, in order, and the truth beside it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Predictions {
    /// The digest of every pixel and label that it was asked about.
    pub of: String,
    /// The class that it named.
    pub guesses: Vec<u32>,
    /// The class that it was.
    pub labels: Vec<u32>,
}

impl Predictions {
    /// Asks a network about images.
    ///
    /// # Errors
    /// Images that cannot be read.
    pub fn ask(net: &dyn Backbone, images: &dyn Batches) -> Result<Self> {
        let of = crate::said::digest("test images", images)?;
        let guesses = sokd_train::predictions(net, images)?;
        let mut labels = Vec::with_capacity(guesses.len());
        for batch in images.epoch(0, 0) {
            labels.extend(batch?.labels.to_vec1::<u32>()?);
        }
        Ok(Self { of, guesses, labels })
    }

    /// What a run directory keeps of it; `None` in those of runs before there was such a file.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let remedy = "delete the file: reports do without it";
            Error::file(&path, None, format!("no predictions of a run: {error}"), remedy)
        })
    }

    /// As it is kept: one line, for tens of thousands of numbers are nobody's reading.
    ///
    /// # Errors
    /// None that numbers could raise.
    pub fn json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| Error::file(Path::new(FILE), None, error.to_string(), "report this bug"))
    }

    /// Which of the images it recognised.
    pub fn answers(&self) -> Answers {
        let right = self.guesses.iter().zip(&self.labels).map(|(guess, label)| guess == label);
        Answers { of: self.of.clone(), right: right.collect() }
    }
}

/// Which of the test images a network recognised: what comparisons need, and small enough to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Answers {
    /// The digest of every pixel and label that it was asked about.
    pub of: String,
    /// Image by image; in files a `1` for each that it recognised and a `0` for each other.
    #[serde(serialize_with = "digits", deserialize_with = "flags")]
    pub right: Vec<bool>,
}

fn digits<S: Serializer>(right: &[bool], to: S) -> std::result::Result<S::Ok, S::Error> {
    let digits: String = right.iter().map(|&right| if right { '1' } else { '0' }).collect();
    digits.serialize(to)
}

fn flags<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<bool>, D::Error> {
    let flag = |digit| match digit {
        '0' => Ok(false),
        '1' => Ok(true),
        other => Err(serde::de::Error::custom(format!("`{other}` is neither 0 nor 1"))),
    };
    String::deserialize(from)?.chars().map(flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written_as_digits_and_read_again() {
        let said = Predictions { of: "ab".into(), guesses: vec![3, 1, 2], labels: vec![3, 2, 2] };
        let answers = said.answers();
        let text = serde_json::to_string(&answers).expect("JSON");
        assert_eq!(text, r#"{"of":"ab","right":"101"}"#);
        assert_eq!(serde_json::from_str::<Answers>(&text).expect("the same"), answers);
        assert!(serde_json::from_str::<Answers>(r#"{"of":"ab","right":"1x"}"#).is_err());
    }

    #[test]
    fn a_run_without_the_file_is_none_and_a_torn_file_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Predictions::read(folder.path()).expect("nothing there"), None);
        std::fs::write(folder.path().join(FILE), "{").expect("written");
        let error = Predictions::read(folder.path()).expect_err("torn").to_string();
        assert!(error.contains("delete the file"), "{error}");
    }
}
