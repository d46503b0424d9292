use crate::graft::{self, Grafts, Place, Said};
use crate::{Error, Lazy, Result};
use candle::Tensor;
use serde::{Deserialize, Serialize};

/// How normalisation layers treat their statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, and running statistics learn from them.
    Train,
    /// Batch statistics, and running statistics stay as they are: a look, not a lesson.
    Probe,
    /// Running statistics.
    Eval,
}

impl Mode {
    /// The same statistics, learning nothing: for a second pass over a batch.
    #[must_use]
    pub fn quiet(self) -> Self {
        match self {
            Self::Train => Self::Probe,
            other => other,
        }
    }
}

/// What a stage gave.
///
/// # Shapes
/// `map`, `preact`: `(batch, height, width, channels)`.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The stage's output, as the next stage reads it.
    pub map: Tensor,
    /// The same before its last non-linearity, where the stage can make it for the asking. [`Backbone::preact`] gives
    /// it for every network.
    pub preact: Option<Lazy>,
    /// What the grafts among its blocks said.
    pub said: Said,
}

impl Stage {
    /// A stage in which nothing is grafted.
    pub fn new(map: Tensor, preact: Option<Lazy>) -> Self {
        Self { map, preact, said: Said::new() }
    }
}

/// What follows the last stage.
///
/// # Shapes
/// `pooled`: `(batch, features)`; `logits`: `(batch, classes)`.
#[derive(Clone, Debug)]
pub struct Head {
    /// The embedding that the classifier reads.
    pub pooled: Tensor,
    /// The classifier's scores.
    pub logits: Tensor,
    /// What the graft in front of the pool said.
    pub said: Option<Tensor>,
}

/// All that a loss or a plug-in may read of one pass through a network.
#[derive(Clone, Debug)]
pub struct Forward {
    /// What the stem gave: the entry 0 of the field's `feats` lists.
    pub stem: Tensor,
    /// What each stage gave: the entries from 1.
    pub stages: Vec<Stage>,
    /// `(batch, features)`.
    pub pooled: Tensor,
    /// `(batch, classes)`.
    pub logits: Tensor,
    /// What the graft in front of the head's pool said.
    pub said: Option<Tensor>,
}

impl Forward {
    /// The same values, cut off from the graph that made them, which is gone then if nobody else holds it.
    ///
    /// # Errors
    /// Those of making what stages can make for the asking.
    pub fn detach(&self) -> Result<Self> {
        let cut = |stage: &Stage| -> Result<Stage> {
            let preact = match &stage.preact {
                // Who could still be asked would hold the graph.
                Some(preact) if stage.map.track_op() => Some(preact.tensor()?.detach().into()),
                other => other.clone(),
            };
            Ok(Stage {
                map: stage.map.detach(),
                preact,
                said: stage.said.iter().map(|(block, word)| (*block, word.detach())).collect(),
            })
        };
        Ok(Self {
            stem: self.stem.detach(),
            stages: self.stages.iter().map(cut).collect::<Result<_>>()?,
            pooled: self.pooled.detach(),
            logits: self.logits.detach(),
            said: self.said.as_ref().map(Tensor::detach),
        })
    }

    /// What the graft at `place` said.
    ///
    /// # Errors
    /// [`Error::Setting`] where none is.
    pub fn said(&self, place: Place) -> Result<&Tensor> {
        graft::said(place, &self.stages, self.said.as_ref())
    }

    /// What stage `stage` gave, counted from 0.
    pub fn stage(&self, stage: usize) -> Result<&Stage> {
        self.stages.get(stage).ok_or(Error::NoStage { stage, stages: self.stages.len() })
    }
}

/// Mean and standard deviation a network was trained under, per colour channel, of pixels in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PixelNorm {
    /// Of red, green and blue.
    pub mean: [f32; 3],
    /// Of red, green and blue.
    pub std: [f32; 3],
}

/// A stage, before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageInfo {
    /// Channels of its map.
    pub channels: usize,
    /// Input pixels per feature pixel, along one side.
    pub stride: usize,
}

/// What is known of a network before it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct BackboneInfo {
    /// What the stem gives.
    pub stem: StageInfo,
    /// What each stage gives.
    pub stages: Vec<StageInfo>,
    /// Width of the embedding.
    pub features: usize,
    /// Width of the classifier.
    pub classes: usize,
    /// What the network subtracts from its images and divides them by.
    pub pixels: PixelNorm,
}

impl BackboneInfo {
    /// Stage `stage`, counted from 0.
    pub fn stage(&self, stage: usize) -> Result<StageInfo> {
        self.stages.get(stage).copied().ok_or(Error::NoStage { stage, stages: self.stages.len() })
    }
}

/// A classifier cut into a stem, stages and a head, so that it can be entered again at any stage.
///
/// Images arrive in [0, 1]; each network normalises with its own [`BackboneInfo::pixels`], so that a teacher from
/// elsewhere and a home-grown student never share a normalisation by accident.
pub trait Backbone: Send + Sync {
    /// What is known before it runs.
    fn info(&self) -> &BackboneInfo;

    /// `images: (batch, height, width, 3)` in [0, 1] → `(batch, height, width, channels)`.
    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;

    /// `input`: what the stage before gave, or the stem for stage 0.
    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage>;

    /// `map`: what the last stage gave.
    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head>;

    /// What is set into it; none for a network that has no place for grafts.
    fn grafts(&mut self) -> Option<&mut Grafts> {
        None
    }

    /// Stage `index` before its last non-linearity. A network in which the *next* stage normalises the map first
    /// (pre-activation networks) computes it here, without teaching its running statistics.
    fn preact(&self, index: usize, stage: &Stage, mode: Mode) -> Result<Tensor> {
        let _ = (index, mode);
        stage.preact.as_ref().map_or_else(|| Ok(stage.map.clone()), Lazy::tensor)
    }

    /// The whole network.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Forward> {
        let (batch, _, _, channels) = images.dims4()?;
        if channels != 3 || batch == 0 {
            return Err(Error::Shape {
                what: "images",
                expected: "(batch ≥ 1, height, width, 3)".into(),
                got: images.dims().to_vec(),
            });
        }
        let [stem, map] = self.begin(images, mode)?;
        self.finish(stem, Vec::new(), map, mode)
    }

    /// The stem's map, as it is shown and as the first stage reads it.
    #[doc(hidden)]
    fn begin(&self, images: &Tensor, mode: Mode) -> Result<[Tensor; 2]> {
        let stem = self.stem(images, mode)?;
        Ok([stem.clone(), stem])
    }

    /// What `out` would have been, had stage `stage` given `map`.
    ///
    /// # Errors
    /// [`Error::NoStage`] beyond the last stage; [`Error::Shape`] when `map` has not the shape that the stage gave.
    fn resume(&self, out: &Forward, stage: usize, map: Tensor, mode: Mode) -> Result<Forward> {
        let was = out.stage(stage)?;
        if was.map.dims() != map.dims() {
            return Err(Error::Shape {
                what: "a rewritten map",
                expected: format!("{:?}, as the stage gave it", was.map.dims()),
                got: map.dims().to_vec(),
            });
        }
        let mut kept = out.stages[..stage].to_vec();
        // What a stage said before its last non-linearity stands as long as its map does.
        let preact = was.preact.clone().filter(|_| was.map.id() == map.id());
        kept.push(Stage { map: map.clone(), preact, said: was.said.clone() });
        self.finish(out.stem.clone(), kept, map, mode)
    }

    #[doc(hidden)]
    fn finish(&self, stem: Tensor, mut stages: Vec<Stage>, mut map: Tensor, mode: Mode) -> Result<Forward> {
        for index in stages.len()..self.info().stages.len() {
            let stage = self.stage(index, &map, mode)?;
            map = stage.map.clone();
            stages.push(stage);
        }
        let Head { pooled, logits, said } = self.head(&map, mode)?;
        Ok(Forward { stem, stages, pooled, logits, said })
    }
}
