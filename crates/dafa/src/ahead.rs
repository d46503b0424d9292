//! What DAFA draws ahead of a step.

use crate::policy::{Lots, Standing};
use crate::{Draw, Space};
use candle::{Device, Tensor};
use sokd_core::{Result, Step};
use sokd_ops::Laid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A draw where a GPU reads it, which so can be told a step again with another.
#[derive(Default)]
pub(crate) struct Ahead {
    draw: Option<Draw>,
    /// The policy, as it stood in a step.
    stood: Option<(Standing, Step)>,
    /// Whether a gradient will be asked about it.
    asked: bool,
    lots: Option<Lots>,
    /// A place for maps of each shape that was met.
    places: BTreeMap<[usize; 4], Arc<Laid>>,
}

impl Ahead {
    /// How the policy stands in a step, which is read where it may have moved since it was read last.
    pub(crate) fn standing(
        &mut self,
        at: &Step,
        read: impl FnOnce() -> Result<Standing>,
    ) -> Result<&Standing> {
        let holds = |(_, last): &(_, Step)| {
            last.settled && at.settled && last.epoch == at.epoch && last.index <= at.index
        };
        let standing = match self.stood.take().filter(holds) {
            Some((standing, _)) => standing,
            None => read()?,
        };
        Ok(&self.stood.insert((standing, *at)).0)
    }

    /// Lays a draw down, for maps of all shapes that were met; and where a gradient will be `asked` about it, what answers.
    pub(crate) fn lay(&mut self, space: &Space, draw: Draw, asked: bool, device: &Device) -> Result<()> {
        match &self.lots {
            Some(lots) => lots.put(space, &draw)?,
            None => self.lots = Some(Lots::new(space, &draw, device)?),
        }
        self.places.iter().try_for_each(|(shape, place)| lay(space, &draw, asked, *shape, place))?;
        (self.draw, self.asked) = (Some(draw), asked);
        Ok(())
    }

    /// Whether what lies there answers a gradient.
    pub(crate) fn answers(&self) -> bool {
        self.asked
    }

    /// The draw in numbers; `None` before there is any.
    pub(crate) fn lots(&self) -> Option<Lots> {
        self.lots.clone()
    }

    /// Where a GPU reads what becomes of maps like this one; `None` before anything is drawn, and where no GPU does.
    pub(crate) fn place(&mut self, space: &Space, map: &Tensor) -> Result<Option<Arc<Laid>>> {
        let Some(draw) = &self.draw else { return Ok(None) };
        let shape = map.dims4()?.into();
        if let Some(place) = self.places.get(&shape) {
            return Ok(Some(Arc::clone(place)));
        }
        let Some(place) = Laid::place(map, 1 + space.questions(shape, draw).len())?.map(Arc::new) else {
            return Ok(None);
        };
        lay(space, draw, self.asked, shape, &place)?;
        self.places.insert(shape, Arc::clone(&place));
        Ok(Some(place))
    }
}

fn lay(space: &Space, draw: &Draw, asked: bool, shape: [usize; 4], place: &Laid) -> Result<()> {
    let mut pairs = vec![space.changes(shape, draw)];
    if asked {
        pairs.extend(space.questions(shape, draw));
    }
    place.lay(&pairs)
}
