//! Layers set into a network.

use crate::{Backbone, BackboneInfo, BuildCx, DatasetInfo, Error, Mode, Result, Stage};
use candle::{DType, Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where something may be set into a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// What the head pools: behind the last stage, and behind whatever the head does before it pools.
    #[default]
    Penultimate,
    /// Behind the first block of the last stage.
    Intermediate,
    /// Behind a block of a stage, both counted from 0: `{ stage = 2, block = 0 }`.
    #[serde(untagged)]
    Behind(Behind),
}

/// A block of a stage, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Behind {
    /// Which stage.
    pub stage: usize,
    /// Which of its blocks.
    pub block: usize,
}

impl Place {
    /// The block behind which it is in a network of so many stages; none, where the head has it.
    fn block(self, stages: usize) -> Option<Behind> {
        match self {
            Self::Penultimate => None,
            Self::Intermediate => Some(Behind { stage: stages.saturating_sub(1), block: 0 }),
            Self::Behind(behind) => Some(behind),
        }
    }

    /// Input pixels per pixel of the map there, along one side: a stage shrinks the map in its first block.
    ///
    /// # Errors
    /// [`Error::NoStage`] beyond the last.
    pub fn stride(self, net: &BackboneInfo) -> Result<usize> {
        let last = net.stages.len().saturating_sub(1);
        Ok(net.stage(self.block(net.stages.len()).map_or(last, |behind| behind.stage))?.stride)
    }
}

/// As recipes name it; a block by its numbers: `stage2-block0`.
impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Penultimate => out.write_str("penultimate"),
            Self::Intermediate => out.write_str("intermediate"),
            Self::Behind(Behind { stage, block }) => write!(out, "stage{stage}-block{block}"),
        }
    }
}

/// A layer set into a network, which reads a map, hands one on, and says something about it.
pub trait Graft: Send + Sync {
    /// The map that goes on, and what a loss may read.
    ///
    /// # Shapes
    /// `(batch, height, width, channels)` → the same, and whatever it says.
    fn forward(&self, map: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)>;
}

/// A graft before it knows where it will be set.
pub trait Scion {
    /// The graft for maps of this height, width and channels, its weights under `cx.vars`.
    ///
    /// # Errors
    /// [`Error::Setting`] when it does not fit there.
    fn grow(&self, map: [usize; 3], cx: &BuildCx<'_>) -> Result<Box<dyn Graft>>;
}

/// A graft that changes nothing and says what it sees.
struct Tap;

impl Graft for Tap {
    fn forward(&self, map: &Tensor, _: Mode) -> Result<(Tensor, Tensor)> {
        Ok((map.clone(), map.clone()))
    }
}

/// What the grafts of a stage said, by block: the last of those behind one block.
pub type Said = BTreeMap<usize, Tensor>;

/// The grafts of a network, which runs its blocks and its head through them.
#[derive(Default)]
pub struct Grafts(BTreeMap<Option<Behind>, Vec<Box<dyn Graft>>>);

impl Grafts {
    /// Runs the blocks of a stage one behind the other, and behind each what is grafted there. `last` runs the last of
    /// them, which shows what it can.
    ///
    /// # Errors
    /// What they raise; a stage without blocks.
    pub fn stage<B>(
        &self,
        (stage, blocks): (usize, &[B]),
        input: Tensor,
        mode: Mode,
        forward: impl Fn(&B, &Tensor) -> Result<Tensor>,
        last: impl Fn(&B, &Tensor) -> Result<Stage>,
    ) -> Result<Stage> {
        let Some((end, before)) = blocks.split_last() else {
            return Err(Error::setting("blocks", format!("stage {stage} has none")));
        };
        let (mut x, mut said) = (input, Said::new());
        for (block, run) in before.iter().enumerate() {
            x = self.run(Some(Behind { stage, block }), forward(run, &x)?, mode, |word| {
                said.insert(block, word);
            })?;
        }
        let Stage { map: was, preact, .. } = last(end, &x)?;
        let block = before.len();
        let map = self.run(Some(Behind { stage, block }), was.clone(), mode, |word| {
            said.insert(block, word);
        })?;
        // What the stage was before its last non-linearity stands as long as its map does.
        let preact = preact.filter(|_| was.id() == map.id());
        Ok(Stage { map, preact, said })
    }

    /// The map that the head pools, through what is grafted there, and what that said.
    ///
    /// # Errors
    /// What the grafts raise.
    pub fn pooled(&self, map: Tensor, mode: Mode) -> Result<(Tensor, Option<Tensor>)> {
        let mut said = None;
        let map = self.run(None, map, mode, |word| said = Some(word))?;
        Ok((map, said))
    }

    fn run(
        &self,
        place: Option<Behind>,
        map: Tensor,
        mode: Mode,
        mut hear: impl FnMut(Tensor),
    ) -> Result<Tensor> {
        self.0.get(&place).into_iter().flatten().try_fold(map, |map, graft| {
            let (map, word) = graft.forward(&map, mode)?;
            hear(word);
            Ok(map)
        })
    }

    fn push(&mut self, place: Option<Behind>, graft: Box<dyn Graft>) {
        self.0.entry(place).or_default().push(graft);
    }

    fn pop(&mut self, place: Option<Behind>) {
        self.0.get_mut(&place).map(Vec::pop);
    }
}

fn grafts(net: &mut dyn Backbone) -> Result<&mut Grafts> {
    net.grafts().ok_or_else(|| Error::setting("graft", "this network has no place for a graft"))
}

/// Sets into `net`, at `place`, behind what is grafted there already, what `make` makes for maps of the height, width
/// and channels that the images of `data` have there.
///
/// # Errors
/// [`Error::Setting`] for a network without such a place, and what `make` raises.
pub fn graft(
    net: &mut dyn Backbone,
    place: Place,
    data: &DatasetInfo,
    device: &Device,
    make: impl FnOnce([usize; 3]) -> Result<Box<dyn Graft>>,
) -> Result<()> {
    let block = place.block(net.info().stages.len());
    grafts(net)?.push(block, Box::new(Tap));
    // Nobody but the network itself knows its maps: it is shown an image.
    let blank = Tensor::zeros((1, data.size[0], data.size[1], 3), DType::F32, device)?;
    let out = net.forward(&blank, Mode::Eval)?;
    grafts(net)?.pop(block);
    let (_, height, width, channels) = out.said(place)?.dims4()?;
    let graft = make([height, width, channels])?;
    grafts(net)?.push(block, graft);
    Ok(())
}

/// Sets into `net`, at `place`, a graft that changes nothing and says what it sees.
///
/// # Errors
/// As [`graft`].
pub fn tap(net: &mut dyn Backbone, place: Place, data: &DatasetInfo, device: &Device) -> Result<()> {
    graft(net, place, data, device, |_| Ok(Box::new(Tap)))
}

/// What stands at `place` among what the stages and the head said.
pub(crate) fn said<'a>(place: Place, stages: &'a [Stage], head: Option<&'a Tensor>) -> Result<&'a Tensor> {
    let word = match place.block(stages.len()) {
        None => head,
        Some(Behind { stage, block }) => stages.get(stage).and_then(|stage| stage.said.get(&block)),
    };
    word.ok_or_else(|| {
        Error::setting("place", format!("nothing is grafted at {place}, or the network has no such place"))
    })
}
