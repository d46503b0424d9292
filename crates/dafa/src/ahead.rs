//! What DAFA draws ahead of a step.

use crate::{Draw, Space};
use candle::{Device, Tensor};
use sokd_core::Result;
use sokd_ops::{Laid, put_};
use std::collections::BTreeMap;

/// A draw where a GPU reads it, which so can be told a step again with another.
#[derive(Default)]
pub(crate) struct Ahead {
    draw: Option<Draw>,
    /// A place for maps of each shape that was met.
    places: BTreeMap<[usize; 4], Laid>,
    /// Which operations are executed: 1 or 0, `(operations,)`.
    executed: Option<Tensor>,
}

impl Ahead {
    /// Lays a draw down, for maps of all shapes that were met.
    pub(crate) fn lay(&mut self, space: &Space, draw: Draw, device: &Device) -> Result<()> {
        let executed = Tensor::new(space.executed(&draw), device)?;
        match &self.executed {
            Some(place) => put_(place, &executed)?,
            None => self.executed = Some(executed),
        }
        self.places.iter().try_for_each(|(shape, place)| lay(space, &draw, *shape, place))?;
        self.draw = Some(draw);
        Ok(())
    }

    /// A map as the draw leaves it; `None` before there is any.
    pub(crate) fn change(&mut self, space: &Space, map: &Tensor) -> Result<Option<Tensor>> {
        let Some(draw) = &self.draw else { return Ok(None) };
        let shape = map.dims4()?.into();
        if let Some(place) = self.places.get(&shape) {
            return place.change(map).map(Some);
        }
        let Some(place) = Laid::place(map, space.adds())? else { return Ok(None) };
        lay(space, draw, shape, &place)?;
        self.places.entry(shape).or_insert(place).change(map).map(Some)
    }

    /// For each operation whether the draw executes it, `()`.
    pub(crate) fn executed(&self) -> Result<Vec<Tensor>> {
        let Some(executed) = &self.executed else { return Ok(Vec::new()) };
        (0..executed.dim(0)?).map(|at| Ok(executed.narrow(0, at, 1)?.squeeze(0)?)).collect()
    }
}

fn lay(space: &Space, draw: &Draw, shape: [usize; 4], place: &Laid) -> Result<()> {
    let [first, second] = space.changes(shape, draw);
    place.lay([&first, &second])
}
