//! The studies that need networks: kept in a file beside the runs, and made again when these are others.

use super::Run;
use super::areas::Areas;
use super::attention::{Closeness, Heat};
use super::distribution::{Spread, Versus};
use super::layer::Layer;
use super::reading::{Reading, Sight};
use super::trained::Trained;
use crate::Result;
use crate::cli::Session;
use crate::report::Picture;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sokd_core::{Area, Dataset, Split};
use std::path::Path;

/// Test images looked at, at most: some seconds on two cores, and enough for means.
pub const MOST: usize = 500;

/// Test images shown.
const SHOWN: usize = 6;

/// Another number whenever the same networks would give another file.
const VERSION: u32 = 2;

/// What the networks of some runs of one column say of the same test images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Images looked at.
    pub images: usize,
    /// Images in the test split.
    pub of: usize,
    /// The images that are shown.
    pub shown: Vec<Shown>,
    /// What each detector finds.
    pub areas: Vec<Areas>,
    /// Where each network looks: the teacher, then the students.
    pub attention: Vec<Attention>,
    /// How each network's embeddings are distributed, in the same order.
    pub spreads: Vec<Spread>,
    /// Networks against each other: first each host against the same with plug-ins.
    pub versus: Vec<Versus>,
    /// What each layer inside a student brings.
    pub layers: Vec<Layer>,
    /// What could not be shown, and why.
    pub problems: Vec<String>,
}

/// A test image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Its class.
    pub class: String,
    /// As PNG, in base 64.
    pub png: String,
    /// Height and width.
    pub size: [usize; 2],
    /// The thing's true box.
    pub truth: Option<Area>,
}

/// Where a network looks for the true class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Whose.
    pub who: String,
    /// On each of the images that are shown.
    pub heat: Vec<Heat>,
    /// Whether it recognises them.
    pub right: Vec<bool>,
    /// How close to the teacher's, over all images looked at; `None` for the teacher itself.
    pub closeness: Option<Closeness>,
}

/// How the teacher is called.
pub const TEACHER: &str = "teacher";

/// What a file keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    of: String,
    seen: Seen,
}

impl Seen {
    /// As the file at `path` has it, if it is about these very runs; else made now, and kept there. What cannot be
    /// shown stands among its problems.
    pub(super) fn of(runs: &[Run<'_>], path: &Path, session: &Session) -> Self {
        let of = identity(runs);
        let kept = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        if let Some(kept) = kept.filter(|kept| kept.of == of) {
            return kept.seen;
        }
        let seen = match Self::look(runs, session) {
            Ok(seen) => seen,
            // Not kept: what failed may be mended before the next report.
            Err(error) => return Self { problems: vec![error.to_string()], ..Self::default() },
        };
        let kept = Kept { of, seen };
        if let Ok(text) = serde_json::to_vec(&kept)
            && kept.seen.problems.is_empty()
        {
            // A folder that cannot be written costs the next report some seconds.
            sokd_core::file::write(path, &text).ok();
        }
        kept.seen
    }

    fn look(runs: &[Run<'_>], session: &Session) -> Result<Self> {
        let mut seen = Self::default();
        let Some(first) = runs.first() else { return Ok(seen) };
        let data = session.kept.open(&first.resolved.recipe.data, &session.stage)?;
        let data = data.as_ref();
        let looked: Vec<&Run<'_>> = runs.iter().filter(|run| run.looked).collect();
        if !looked.is_empty() {
            seen.networks(&looked, data, session)?;
        }
        for run in runs {
            match Layer::all(run.row, &run.resolved.recipe.student, run.dir, data, session) {
                Ok(layers) => seen.layers.extend(layers),
                Err(error) => seen.problems.push(format!("{}: {error}", run.row)),
            }
        }
        Ok(seen)
    }

    /// What networks say of the same test images.
    fn networks(&mut self, runs: &[&Run<'_>], data: &dyn Dataset, session: &Session) -> Result<()> {
        let sight = Sight::of(data.info().test, MOST).on(&session.device);
        (self.images, self.of) = (sight.rows.len(), data.info().test);
        session.stage.say(&format!("studies: looking at {} test images", self.images));
        let places = self.show(&sight, data)?;

        let mut teacher: Option<Reading> = None;
        for run in runs {
            let trained = match Trained::open(run.resolved, run.dir, session) {
                Ok(trained) => trained,
                Err(error) => {
                    self.problems.push(format!("{}: {error}", run.row));
                    continue;
                }
            };
            if let (None, Some(net)) = (&teacher, &trained.teacher) {
                let reading = Reading::of(net.as_ref(), &sight, data)?;
                self.add(TEACHER, &reading, None, &places);
                teacher = Some(reading);
            }
            let reading = Reading::of(trained.student.as_ref(), &sight, data)?;
            self.add(run.row, &reading, teacher.as_ref(), &places);
            if trained.detector.is_some() {
                match Areas::of(run.row, &trained, &sight, &places, data) {
                    Ok(areas) => self.areas.push(areas),
                    Err(error) => self.problems.push(format!("{}: {error}", run.row)),
                }
            } else if trained.lost {
                let why = "its checkpoints are gone, and with them the detector";
                self.problems.push(format!("{}: {why}", run.row));
            }
        }
        self.versus = versus(runs, &self.spreads);
        Ok(())
    }

    /// The first image of each of the first classes that come; gives their places among the images looked at.
    fn show(&mut self, sight: &Sight, data: &dyn Dataset) -> Result<Vec<usize>> {
        let (mut places, mut labels): (Vec<usize>, Vec<u32>) = (Vec::new(), Vec::new());
        for (place, row) in sight.rows.iter().enumerate() {
            if places.len() == SHOWN {
                break;
            }
            let batch = data.read(Split::Test, &[*row])?;
            let label = batch.labels.to_vec1::<u32>().map_err(sokd_core::Error::from)?[0];
            if labels.contains(&label) {
                continue;
            }
            places.push(place);
            labels.push(label);
            let truth = data.areas(Split::Test).and_then(|areas| areas.get(*row as usize)).copied();
            let Picture { png, size, .. } = Picture::of(&batch.images, None)?;
            let class = data.info().classes.get(label as usize).cloned().unwrap_or_default();
            self.shown.push(Shown { class, png: STANDARD.encode(png), size, truth });
        }
        Ok(places)
    }

    fn add(&mut self, who: &str, reading: &Reading, teacher: Option<&Reading>, places: &[usize]) {
        self.attention.push(Attention {
            who: who.to_owned(),
            heat: places.iter().map(|at| reading.heat[*at].clone()).collect(),
            right: places.iter().map(|at| reading.right[*at]).collect(),
            closeness: teacher.and_then(|teacher| Closeness::of(&reading.heat, &teacher.heat)),
        });
        self.spreads.push(Spread::of(who, &reading.pooled));
    }
}

/// Each host against the same with plug-ins, then each student against the teacher.
fn versus(runs: &[&Run<'_>], spreads: &[Spread]) -> Vec<Versus> {
    let spread = |who: &str| spreads.iter().find(|spread| spread.who == who);
    let hosts = runs.iter().filter_map(|run| Some((run.host?, run.row)));
    let students = runs.iter().map(|run| (TEACHER, run.row));
    let pairs = hosts.chain(students);
    pairs.filter_map(|(a, b)| Some(Versus::of(spread(a)?, spread(b)?))).collect()
}

/// The digest of which runs these are, and when they ran.
fn identity(runs: &[Run<'_>]) -> String {
    let mut digest = blake3::Hasher::new();
    digest.update(&VERSION.to_le_bytes());
    for run in runs {
        for part in [run.row, run.host.unwrap_or_default(), &run.resolved.id, run.started] {
            digest.update(part.as_bytes()).update(&[0]);
        }
    }
    digest.finalize().to_hex().to_string()
}
