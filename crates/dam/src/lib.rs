#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::float_cmp, reason = "what should be exact is compared exactly"))]

pub mod areas;
mod boxes;
mod detector;
mod heads;
mod monitor;
mod score;

pub use detector::{Detector, Look};
pub use heads::{Heads, Sight};
pub use score::{Score, score};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, Error, Feature, Refiner, Result};
use sokd_nn::Hint;

/// DAM: the areas that student and teacher both find distinctive, and what it costs to differ there.
///
/// One small detector reads the student's map, behind an adapter, and the teacher's, as the plug-ins in front leave it.
/// That it should see the same in both is the term `agreement`; that the maps should be the same inside the boxes that
/// it finds is the term `area`.
///
/// # Formula
/// ```text
/// agreement = ‖D(Φ(F_student)) − D(F_teacher)‖²       D: the detector's heatmaps, sizes and offsets; Φ: the adapter
/// area      = Σᵢ ‖M(Aᵢ) (Φ(F_student) − F_teacher)‖²  M(A): 1 inside the box A, 0 outside
/// both as means of squares; the objective has λ · agreement + β · area
/// ```
///
/// # Source
/// SoKD (arXiv:2409.18785) as its published descriptions give it: equations (E10) to (E12) of this crate's front page.
/// What they leave open is as the authors' development code has it, or ours; each setting says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dam {
    /// The stage, and the student's adapter at it. Depth 3, as the development code's; a host whose hint is equal
    /// shares the adapter.
    #[serde(deserialize_with = "Deep::deserialize")]
    pub hint: Hint,
    /// Heatmaps. As many as classes up to 100 (the development code has 100 for CIFAR-100), else 2 (its older form):
    /// ours, to bound memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heatmaps: Option<usize>,
    /// Channels between a branch's two convolutions: as many as the teacher's map has, as in the development code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// What a branch ends in. A ReLU, as in the development code.
    pub output: Output,
    /// A batch norm between a branch's two convolutions, which sees the student's map, then the teacher's: none, as in
    /// the development code.
    pub batch_norm: bool,
    /// Boxes an image: the paper's P, 8 as in the development code.
    pub peaks: usize,
    /// The side of the window of which a peak is the largest value, odd. 3, as in the development code.
    pub window: usize,
    /// The least side of a box, in cells: 0, as in the development code, whose boxes are mostly single cells.
    pub min_box: f64,
    /// In whose map peaks are looked for. The student's, as in the development code.
    pub boxes_from: Whose,
    /// What a cell in several boxes counts for. As often as it is covered: (E11).
    pub combine: Combine,
    /// What `area` is a mean over. The whole map, as in the development code.
    pub over: Over,
    /// What `agreement` counts for, the paper's λ, whose value is not known: the development code's last, 1000.
    pub agreement: f64,
    /// What `area` counts for, the paper's β, whose value is not known: the development code's last, 1000.
    pub area: f64,
    /// Whether `agreement` moves nothing on the teacher's side. It does move the detector there, and through it a
    /// learned augmentation, as in the development code.
    pub stop_teacher: bool,
    /// What ties the heatmaps to the classes: nothing, as in the paper. Ours, against the collapse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
}

impl Default for Dam {
    fn default() -> Self {
        Self {
            hint: deep(),
            heatmaps: None,
            width: None,
            output: Output::Relu,
            batch_norm: false,
            peaks: 8,
            window: 3,
            min_box: 0.0,
            boxes_from: Whose::Student,
            combine: Combine::Sum,
            over: Over::Map,
            agreement: 1000.0,
            area: 1000.0,
            stop_teacher: false,
            anchor: None,
        }
    }
}

/// The development code's adapter.
fn deep() -> Hint {
    Hint { depth: 3, ..Hint::default() }
}

/// A hint that leaves its depth open has this crate's, not FitNet's.
#[derive(Deserialize)]
#[serde(remote = "Hint", deny_unknown_fields, default = "deep")]
struct Deep {
    stage: usize,
    feature: Feature,
    depth: usize,
    relu: bool,
}

/// What a branch of the detector ends in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A ReLU on all three: the development code's, of whose sigmoid nothing is below 1/2.
    #[default]
    Relu,
    /// A softplus on the sizes, nothing on the others. Ours: no unit can die, and no size is below 0.
    SoftplusSizes,
    /// Nothing. Ours; a size below 0 makes a box of the least side.
    Plain,
}

/// In whose map peaks are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The student's, behind its adapter.
    #[default]
    Student,
    /// The teacher's.
    Teacher,
    /// Both: the mean of what the detector says of either.
    Both,
    /// The student's boxes, each moved to a place drawn evenly: the same areas, in places that nobody chose.
    Random,
}

/// What a cell in `n` boxes counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// n: the paper's sum over boxes, (E11).
    #[default]
    Sum,
    /// 1, if n is not 0.
    Union,
    /// n²: the development code, which multiplies both maps by n before it squares.
    CountSquared,
}

/// What `area` is a mean over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// The whole map: the smaller the boxes, the smaller the term.
    #[default]
    Map,
    /// What the boxes cover, as [`Combine`] counts it: the term has the scale of FitNet's.
    Area,
}

/// A cross-entropy on the spatial means of the heatmaps' logits, one heatmap a class, for either side.
///
/// # Source
/// ours: after class activation maps (Zhou et al., 2016, arXiv:1512.04150).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Anchor {
    /// What it counts for, for each of the two.
    pub weight: f64,
}

impl Default for Anchor {
    fn default() -> Self {
        Self { weight: 1.0 }
    }
}

impl Dam {
    /// The detector with its weights, under `adapter.dam.<stage>.*`.
    ///
    /// # Errors
    /// [`Error::Setting`] when a setting cannot work; [`Error::NoStage`] beyond the last stage.
    pub fn detector(&self, cx: &BuildCx<'_>) -> Result<Detector> {
        let classes = cx.teacher("dam")?.classes;
        let heatmaps = self.heatmaps.unwrap_or(if classes <= 100 { classes } else { 2 });
        if self.window.is_multiple_of(2) {
            return Err(Error::setting("dam.window", format!("{} is not odd", self.window)));
        }
        if heatmaps == 0 || self.width == Some(0) {
            return Err(Error::setting("dam.heatmaps", "a branch has at least one channel"));
        }
        if self.anchor.is_some() && heatmaps != classes {
            let problem =
                format!("needs a heatmap for each of the {classes} classes, and there are {heatmaps}");
            return Err(Error::setting("dam.anchor", problem));
        }
        Detector::new(self.clone(), heatmaps, cx)
    }

    /// What the anchor counts for.
    fn anchored(&self) -> f64 {
        self.anchor.map_or(0.0, |anchor| anchor.weight)
    }

    /// Whether boxes are asked for.
    fn boxes(&self) -> bool {
        self.peaks > 0
    }

    /// Whether anything is asked at all.
    fn asks(&self) -> bool {
        self.agreement != 0.0 || self.anchored() != 0.0 || (self.area != 0.0 && self.boxes())
    }
}

impl Build<dyn Refiner> for Dam {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Refiner>> {
        Ok(Box::new(self.detector(cx)?))
    }
}
