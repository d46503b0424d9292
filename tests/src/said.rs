use candle::{Device, Tensor};
use sokd_core::{
    Backbone, BackboneInfo, DatasetInfo, Forward, Head, Key, Mode, Pair, PixelNorm, Result, Side, Stage,
    StageInfo, Step,
};
use sokd_models::{ModelSpec, resnet::Resnet};
use std::collections::BTreeMap;

/// A network that says the same whatever it is shown: what losses are compared on when their inputs are given.
pub struct Said {
    info: BackboneInfo,
    out: Forward,
}

impl Said {
    /// A network that gave `maps`, the stem's first, from images of `side` pixels.
    pub fn new(logits: Tensor, pooled: Tensor, mut maps: Vec<Tensor>, side: usize) -> Result<Self> {
        let of = |map: &Tensor| -> Result<StageInfo> {
            let (_, height, _, channels) = map.dims4()?;
            Ok(StageInfo { channels, stride: side / height })
        };
        let stem = maps.remove(0);
        let info = BackboneInfo {
            stem: of(&stem)?,
            stages: maps.iter().map(of).collect::<Result<_>>()?,
            features: pooled.dim(1)?,
            classes: logits.dim(1)?,
            pixels: data(1, [side; 2]).pixels,
        };
        let stages = maps.into_iter().map(|map| Stage::new(map, None)).collect();
        Ok(Self { info, out: Forward { stem, stages, pooled, logits, said: None } })
    }
}

impl Backbone for Said {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn stem(&self, _: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(self.out.stem.clone())
    }

    fn stage(&self, index: usize, _: &Tensor, _: Mode) -> Result<Stage> {
        self.out.stage(index).cloned()
    }

    fn head(&self, _: &Tensor, _: Mode) -> Result<Head> {
        Ok(Head { pooled: self.out.pooled.clone(), logits: self.out.logits.clone(), said: None })
    }
}

/// A student that learns and a teacher at rest, before the same images.
pub fn pair<'a>(
    student: &'a dyn Backbone,
    teacher: &'a dyn Backbone,
    images: Tensor,
    labels: &[u32],
) -> Result<Pair<'a>> {
    Ok(Pair {
        labels: Tensor::new(labels, &Device::Cpu)?,
        rows: Tensor::arange(0, labels.len() as u32, &Device::Cpu)?,
        student: Side::new(student, Mode::Train, &images)?,
        teacher: Some(Side::new(teacher, Mode::Eval, &images)?),
        images,
        showings: 1,
        adapted: BTreeMap::new(),
    })
}

/// A data set of which nothing is read.
pub fn data(classes: usize, size: [usize; 2]) -> DatasetInfo {
    DatasetInfo {
        name: "waves".into(),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        size,
        pixels: PixelNorm { mean: [0.5, 0.45, 0.4], std: [0.25, 0.2, 0.3] },
        // More than a batch: what remembers images asks how many there are.
        train: 8,
        search: 0,
        test: 0,
    }
}

/// Every family of networks as the catalogue has it, and bottlenecks besides.
#[must_use]
pub fn networks() -> Vec<ModelSpec> {
    let bottlenecks = ModelSpec::Resnet(Resnet { depth: 50, width: 8, ..Resnet::default() });
    ModelSpec::examples().into_iter().chain([bottlenecks]).collect()
}

/// The first step of a run.
#[must_use]
pub fn first() -> Step {
    Step::first(Key::new(0))
}
