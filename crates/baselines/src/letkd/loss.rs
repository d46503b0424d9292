use super::artefact::kept;
use super::decisions::Decisions;
use super::kmeans::Clusters;
use super::layer::mixed;
use super::maps::{Maps, View};
use candle::{D, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, DistillLoss, Error, Key, Pair, Place, Result, Step, Terms};
use sokd_ops::{soft_cross_entropy, softmax};
use std::collections::BTreeMap;

/// letKD's loss behind the last stage: a layer's templates should match as the teacher's place lies to its clusters.
///
/// # Formula
/// ```text
/// letkd-clusters = mean over places of KL(softmax(−t ‖f − c_k‖²) ‖ softmax(scores_k))
/// f: the teacher's vector at the place; c_k: the clusters; scores: those of the student's `kd-layer`
/// ```
///
/// # Source
/// Gorgun et al., 2023 (arXiv:2309.02843), supplement, algorithm 1, with the minus that its code has and its box lacks: the targets
/// of `QuEST`. 4096 clusters, 20 iterations and t = 1 as in the authors' code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LetkdClusters {
    /// Where the student's layer is.
    pub place: Place,
    /// Where the teacher is looked at: the same place, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Place>,
    /// How many clusters: as many as the layer has templates.
    pub clusters: usize,
    /// How sharp the targets are: the t of the formula.
    pub sharpness: f64,
    /// Iterations of the clustering.
    pub iterations: usize,
    /// Of how many training images clusters are made, drawn by `seed`: all, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// The randomness of the clustering. The run's own seed does not change it: runs share what is learned.
    pub seed: u64,
}

impl Default for LetkdClusters {
    fn default() -> Self {
        Self {
            place: Place::Penultimate,
            teacher: None,
            clusters: 4096,
            sharpness: 1.0,
            iterations: 20,
            images: None,
            seed: 0,
        }
    }
}

/// letKD's loss inside the last stage: a layer's templates should match as the teacher decides between parts of classes.
///
/// A place of the teacher's map belongs to the nearest part of the image's own class, and p says how the training images'
/// places of that part were shared among the parts of all classes.
///
/// # Formula
/// ```text
/// letkd-decisions = mean over places of KL(p ‖ softmax(scores))          scores: those of the student's `kd-layer`
/// ```
///
/// # Source
/// Gorgun et al., 2023 (arXiv:2309.02843), supplement, algorithm 2. 8 parts a class, 60 components and 20 iterations as in the
/// authors' code for CIFAR-100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LetkdDecisions {
    /// Where the student's layer is.
    pub place: Place,
    /// Where the teacher is looked at: the same place, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Place>,
    /// Parts of each class: the layer has as many templates as there are parts of all classes.
    pub parts: usize,
    /// Discriminant components in which parts are found, if there are so many.
    pub components: usize,
    /// Iterations of the clustering.
    pub iterations: usize,
    /// Of how many training images it is learned, drawn by `seed`: all, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// The randomness of the clustering. The run's own seed does not change it: runs share what is learned.
    pub seed: u64,
}

impl Default for LetkdDecisions {
    fn default() -> Self {
        Self {
            place: Place::Intermediate,
            teacher: None,
            parts: 8,
            components: 60,
            iterations: 20,
            images: None,
            seed: 0,
        }
    }
}

impl LetkdClusters {
    /// Where the teacher is looked at.
    pub fn looks(&self) -> Place {
        self.teacher.unwrap_or(self.place)
    }
}

impl LetkdDecisions {
    /// Where the teacher is looked at.
    pub fn looks(&self) -> Place {
        self.teacher.unwrap_or(self.place)
    }
}

impl Build<dyn DistillLoss> for LetkdClusters {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        const WHO: &str = "letkd-clusters";
        if !(self.sharpness > 0.0 && self.sharpness.is_finite()) {
            let problem = format!("{} is not above 0", self.sharpness);
            return Err(Error::setting("letkd-clusters.sharpness", problem));
        }
        let (preview, view) = (cx.preview(WHO)?, View::between(self.place, self.looks(), cx, WHO)?);
        let Self { clusters, iterations, images, seed, .. } = *self;
        let make = || {
            let key = Key::new(seed).fold(WHO);
            let maps = Maps::read(&preview, view, images, key.fold("images"))?;
            let found = Clusters::of(&maps.points, maps.width, clusters, iterations, key, preview.watch)?;
            let centres = Tensor::from_vec(found.centres, (clusters, maps.width), &candle::Device::Cpu)?;
            let sizes: Vec<u32> = found.sizes.iter().map(|&size| size as u32).collect();
            let sizes = Tensor::from_vec(sizes, clusters, &candle::Device::Cpu)?;
            Ok([("centres", centres), ("sizes", sizes)].map(|(name, of)| (name.to_owned(), of)).into())
        };
        // Neither the student's place nor the sharpness changes the clusters.
        let asked = BTreeMap::from([
            ("clusters", Some(clusters as u64)),
            ("iterations", Some(iterations as u64)),
            ("images", images.map(|images| images as u64)),
            ("seed", Some(seed)),
        ]);
        let tensors = kept(&preview, view, &(WHO, asked), make)?;
        let centres =
            tensors.get("centres").ok_or_else(|| Error::setting(WHO, "it was kept without centres"))?;
        Ok(Box::new(Distances::new(self.clone(), view, &centres.to_device(preview.device)?)?))
    }
}

impl Build<dyn DistillLoss> for LetkdDecisions {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        const WHO: &str = "letkd-decisions";
        let (preview, view) = (cx.preview(WHO)?, View::between(self.place, self.looks(), cx, WHO)?);
        let Self { parts, components, iterations, images, seed, .. } = *self;
        for (setting, value) in [("letkd-decisions.parts", parts), ("letkd-decisions.components", components)]
        {
            if value == 0 {
                return Err(Error::setting(setting, "0 tell nothing apart"));
            }
        }
        let classes = cx.data(WHO)?.classes.len();
        let make = || {
            let key = Key::new(seed).fold(WHO);
            let maps = Maps::read(&preview, view, images, key.fold("images"))?;
            let shape = (parts, components, iterations);
            Ok(Decisions::of(&maps, classes, shape, key, preview.watch)?.tensors())
        };
        let asked = BTreeMap::from([
            ("parts", Some(parts as u64)),
            ("components", Some(components as u64)),
            ("iterations", Some(iterations as u64)),
            ("images", images.map(|images| images as u64)),
            ("seed", Some(seed)),
        ]);
        let tensors = kept(&preview, view, &(WHO, asked), make)?;
        let decisions = Decisions::from_tensors(&tensors)
            .ok_or_else(|| Error::setting(WHO, "it was kept without all of its tensors"))?;
        let decisions = decisions.to_device(preview.device)?;
        Ok(Box::new(Decided { place: self.place, view, decisions }))
    }
}

/// [`LetkdClusters`] with its clusters.
pub struct Distances {
    loss: LetkdClusters,
    view: View,
    /// `(clusters, channels)`, times 2 t.
    centres: Tensor,
    /// `(clusters,)`: −t times the squared length of each.
    lengths: Tensor,
}

impl Distances {
    /// With `centres`, `(clusters, channels)`.
    ///
    /// # Errors
    /// What the tensors raise.
    pub fn new(loss: LetkdClusters, view: View, centres: &Tensor) -> Result<Self> {
        let lengths = (centres.sqr()?.sum(D::Minus1)? * -loss.sharpness)?;
        Ok(Self { centres: (centres * (2.0 * loss.sharpness))?, lengths, view, loss })
    }

    /// The targets, and the entropy of each.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)` → `(batch · height · width, clusters)`, `(batch · height · width,)`.
    pub fn targets(&self, map: &Tensor) -> Result<(Tensor, Tensor)> {
        // −t |f − c|² = 2 t f·c − t |c|² − t |f|², and the last is the same for all clusters.
        let scores = mixed(&map.detach(), &self.centres, Some(&self.lengths))?.flatten_to(2)?;
        let targets = softmax(&scores)?;
        let entropy = soft_cross_entropy(&targets, &scores)?;
        Ok((targets, entropy))
    }
}

impl DistillLoss for Distances {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        const WHO: &str = "letkd-clusters";
        let map = self.view.of(pair.teacher(WHO)?.out.said(self.view.place)?)?;
        let scores = scores(pair, self.loss.place, &map, self.centres.dim(0)?)?;
        let (targets, entropy) = self.targets(&map)?;
        Ok(Terms::one(WHO, divergence(&targets, &entropy, &scores)?))
    }
}

/// [`LetkdDecisions`] with what the teacher decides.
struct Decided {
    place: Place,
    view: View,
    decisions: Decisions,
}

impl DistillLoss for Decided {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        const WHO: &str = "letkd-decisions";
        let map = self.view.of(pair.teacher(WHO)?.out.said(self.view.place)?)?;
        let scores = scores(pair, self.place, &map, self.decisions.scores.dim(0)?)?;
        let (targets, entropy) = self.decisions.at(&map, &pair.labels)?;
        Ok(Terms::one(WHO, divergence(&targets, &entropy, &scores)?))
    }
}

/// What the student's layer said, once it is known to fit the teacher's map and the number of targets.
fn scores(pair: &Pair<'_>, place: Place, map: &Tensor, targets: usize) -> Result<Tensor> {
    let scores = pair.student.out.said(place).map_err(|_| {
        let problem = format!("the student has no kd-layer at {place}: add one to student.graft");
        Error::setting("letkd", problem)
    })?;
    let ((batch, height, width, templates), (_, rows, columns, _)) = (scores.dims4()?, map.dims4()?);
    if templates != targets {
        let problem =
            format!("{templates} of the student's layer at {place}, and {targets} are to be matched");
        return Err(Error::setting("kd-layer.templates", problem));
    }
    if map.dims4()?.0 != batch || [height, width] != [rows, columns] {
        let expected = format!("({batch}, {height}, {width}, channels), as the student's at {place}");
        return Err(Error::Shape { what: "the teacher's map", expected, got: map.dims().to_vec() });
    }
    Ok(scores.clone())
}

/// KL(targets ‖ softmax(scores)) in nats, the mean over places.
///
/// # Shapes
/// `targets`: `(batch · height · width, templates)`; `entropy`, −Σ p ln p of each: `(batch · height · width,)`; `scores`:
/// `(batch, height, width, templates)` → `(batch,)`.
pub fn divergence(targets: &Tensor, entropy: &Tensor, scores: &Tensor) -> Result<Tensor> {
    let (batch, height, width, templates) = scores.dims4()?;
    let cross = soft_cross_entropy(targets, &scores.reshape((batch * height * width, templates))?)?;
    Ok((cross - entropy)?.reshape((batch, height * width))?.mean(D::Minus1)?)
}
