use candle::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, BackboneInfo, Forward, Grafts, Head, Lazy, Mode, Result, Stage};
use sokd_ops::{narrow, widen, with_mixed_precision};

/// In which numbers a network computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// In single precision.
    #[default]
    Single,
    /// Maps in bfloat16; weights, their gradients, statistics and sums in single precision. A GPU needs half the memory
    /// for maps so, and multiplies them faster; a CPU does it for the sake of trying, slower than without.
    Mixed,
}

impl Precision {
    /// The network, computing so. What it shows is in single precision either way.
    #[must_use]
    pub fn of(self, net: Box<dyn Backbone>) -> Box<dyn Backbone> {
        match self {
            Self::Single => net,
            Self::Mixed => Box::new(Mixed(net)),
        }
    }
}

/// A network in [mixed precision](with_mixed_precision).
struct Mixed(Box<dyn Backbone>);

impl Mixed {
    /// `stage`, of a map in bfloat16, and giving such.
    fn narrow_stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        with_mixed_precision(|| self.0.stage(index, input, mode))
    }
}

fn wide(stage: Stage) -> Result<Stage> {
    let wide_words = stage.said.into_iter().map(|(block, word)| Ok((block, widen(&word)?)));
    Ok(Stage {
        map: widen(&stage.map)?,
        preact: stage.preact.map(|preact| Lazy::new(move || widen(&preact.tensor()?))),
        said: wide_words.collect::<Result<_>>()?,
    })
}

impl Backbone for Mixed {
    fn info(&self) -> &BackboneInfo {
        self.0.info()
    }

    fn grafts(&mut self) -> Option<&mut Grafts> {
        self.0.grafts()
    }

    fn begin(&self, images: &Tensor, mode: Mode) -> Result<[Tensor; 2]> {
        let stem = with_mixed_precision(|| self.0.stem(images, mode))?;
        Ok([widen(&stem)?, stem])
    }

    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let [shown, _] = self.begin(images, mode)?;
        Ok(shown)
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        wide(self.narrow_stage(index, &narrow(input)?, mode)?)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head> {
        let Head { pooled, logits, said } = with_mixed_precision(|| self.0.head(&narrow(map)?, mode))?;
        let said = said.as_ref().map(widen).transpose()?;
        Ok(Head { pooled: widen(&pooled)?, logits: widen(&logits)?, said })
    }

    fn preact(&self, index: usize, stage: &Stage, mode: Mode) -> Result<Tensor> {
        widen(&self.0.preact(index, stage, mode)?)
    }

    /// From stage to stage, maps go as they are.
    fn finish(&self, stem: Tensor, mut stages: Vec<Stage>, map: Tensor, mode: Mode) -> Result<Forward> {
        let mut map = narrow(&map)?;
        for index in stages.len()..self.info().stages.len() {
            let stage = self.narrow_stage(index, &map, mode)?;
            map = stage.map.clone();
            stages.push(wide(stage)?);
        }
        let Head { pooled, logits, said } = self.head(&map, mode)?;
        Ok(Forward { stem, stages, pooled, logits, said })
    }
}
