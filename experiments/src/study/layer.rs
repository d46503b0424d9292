//! What a layer inside a student brings: how well classes are told apart in front of it, and behind it.

use super::reading::Sight;
use crate::cli::Session;
use crate::network::fill;
use crate::pixels::expected;
use crate::recipe::StudentSpec;
use crate::{Planted, Result};
use candle::Tensor;
use serde::{Deserialize, Serialize};
use sokd_baselines::letkd::lda::Classifier;
use sokd_core::{Backbone, BuildCx, Dataset, DatasetInfo, Error, Graft, Key, Mode, Place, Split};
use sokd_nn::Params;
use std::collections::BTreeMap;
use std::path::Path;

/// Training images that discriminants are fitted to, and test images that they are judged by, at most of each.
///
/// # Source
/// ours: some seconds on two cores. All 50,000 of CIFAR-100 would take five times as long.
pub const FITTED: usize = 10_000;

/// Images at once: memory, and nothing else.
const BATCH: usize = 250;

/// Test images that discriminants of the pooled map recognise, around a layer.
///
/// # Source
/// Gorgun et al., 2023 (arXiv:2309.02843), supplement, table 4. What is not said there is ours: which images, and that they are
/// not augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The table's row.
    pub arm: String,
    /// Where the layer is.
    pub place: String,
    /// In front of it, in per cent.
    pub before: f64,
    /// Behind it, in per cent.
    pub behind: f64,
    /// Training images that discriminants were fitted to.
    pub fitted: usize,
    /// Test images that were judged.
    pub judged: usize,
}

/// The layers inside a student's network. One in front of the pool hands the classifier itself what it reads.
pub fn inside(student: &StudentSpec) -> impl Iterator<Item = Place> {
    student.graft.0.values().map(|Planted { place, .. }| *place).filter(|place| *place != Place::Penultimate)
}

impl Layer {
    /// Those inside the student of a finished run in `dir`: none where it has none.
    ///
    /// # Errors
    /// Weights that are missing, torn or another network's; what the data refuse.
    pub fn all(
        arm: &str,
        student: &StudentSpec,
        dir: &Path,
        data: &dyn Dataset,
        session: &Session,
    ) -> Result<Vec<Self>> {
        let mut places: Vec<Place> = inside(student).collect();
        places.sort();
        places.dedup();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        session.stage.say(&format!("studies: discriminants around the layers of {arm}"));
        let net = network(student, dir, data.info(), session)?;
        let see = |split| Around::all(net.as_ref(), &places, data, split, session);
        let (train, test) = (see(Split::Train)?, see(Split::Test)?);
        let classes = data.info().classes.len();
        let layer = |(place, (train, test)): (&Place, (&Around, &Around))| {
            let right = |side: usize| -> Result<f64> {
                let width = train.width;
                let told = Classifier::of(&train.points[side], width, &train.labels, classes)?;
                let guesses = test.points[side].chunks_exact(width).map(|point| told.guess(point));
                let right = guesses.zip(&test.labels).filter(|(guess, label)| guess == *label).count();
                Ok(100.0 * right as f64 / test.labels.len().max(1) as f64)
            };
            Ok(Self {
                arm: arm.to_owned(),
                place: place.to_string(),
                before: right(0)?,
                behind: right(1)?,
                fitted: train.labels.len(),
                judged: test.labels.len(),
            })
        };
        places.iter().zip(train.iter().zip(&test)).map(layer).collect()
    }
}

/// The student of a finished run, whose layers say what is around them.
fn network(
    student: &StudentSpec,
    dir: &Path,
    info: &DatasetInfo,
    session: &Session,
) -> Result<Box<dyn Backbone>> {
    let path = dir.join("student").join("model.safetensors");
    let params = Params::new(Key::new(0));
    let info = DatasetInfo { pixels: expected(None, Some(&path), &student.model, info), ..info.clone() };
    let cx = BuildCx::alone(params.frozen(&session.device), &info);
    let mut net = sokd_core::Build::build(&student.model, &cx)?;
    student.graft.plant_as(net.as_mut(), &cx, |layer| Box::new(Between(layer)))?;
    fill(&params, "", &path, net.as_ref(), &info)?;
    Ok(net)
}

/// A layer that says, in place of its own word, the means over the map in front of it and behind it.
struct Between(Box<dyn Graft>);

impl Graft for Between {
    fn forward(&self, map: &Tensor, mode: Mode) -> sokd_core::Result<(Tensor, Tensor)> {
        let (on, _) = self.0.forward(map, mode)?;
        // (batch, height, width, channels) twice → (batch, 2, channels)
        let means = Tensor::stack(&[map.mean((1, 2))?, on.mean((1, 2))?], 1)?;
        Ok((on, means))
    }
}

/// Pooled maps of some images around a layer, and their classes.
struct Around {
    width: usize,
    /// In front and behind, image by image.
    points: [Vec<f32>; 2],
    labels: Vec<u32>,
}

impl Around {
    /// Around the layers at `places`, of images evenly spaced over a split.
    fn all(
        net: &dyn Backbone,
        places: &[Place],
        data: &dyn Dataset,
        split: Split,
        session: &Session,
    ) -> Result<Vec<Self>> {
        let mut around: BTreeMap<Place, Self> = BTreeMap::new();
        for rows in Sight::of(data.info().len(split), FITTED).rows.chunks(BATCH) {
            let batch = data.read(split, rows)?;
            let images = batch.images.to_device(&session.device).map_err(Error::from)?;
            let said = net.forward(&images, Mode::Eval)?.detach()?;
            for &place in places {
                around.entry(place).or_insert_with(Self::none).add(said.said(place)?, &batch.labels)?;
            }
        }
        Ok(around.into_values().collect())
    }

    fn none() -> Self {
        Self { width: 0, points: [Vec::new(), Vec::new()], labels: Vec::new() }
    }

    fn add(&mut self, means: &Tensor, labels: &Tensor) -> sokd_core::Result<()> {
        self.width = means.dims3()?.2;
        for (side, points) in self.points.iter_mut().enumerate() {
            points.extend(means.narrow(1, side, 1)?.flatten_all()?.to_vec1::<f32>()?);
        }
        self.labels.extend(labels.to_vec1::<u32>()?);
        Ok(())
    }
}
