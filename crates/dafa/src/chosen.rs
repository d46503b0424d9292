use crate::{Draw, Relaxed, Space};
use candle::backend::BackendStorage;
use candle::{CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Shape, Storage, Tensor};
use sokd_core::Result;
use std::sync::Arc;

/// A refined map that the policy answers for: its values are those of the sub-policy drawn, to the bit, and its gradient
/// G goes to the policy, by a linear map that asks every sub-policy what it would have made of the teacher's map.
///
/// With ⟨·, ·⟩ the sum over all numbers of the batch, k the sub-policy drawn and ō the operation executed as its bit says:
///
/// - the choice: ⟨G, s(F)⟩ for every sub-policy s, each evaluated by itself and forgotten;
/// - the bits of k: ⟨G, what the pair gives with the bit set less what it gives without⟩;
/// - the levels of k: the sum over G where the bit is set, else 0.
///
/// Only what a graph tracks is computed. The teacher's map gets no gradient.
///
/// # Source
/// Equations (E1) to (E4) of the book's page on DAFA: straight-through values, Gumbel-Softmax gradients for choice and
/// bits, and SoKD's and DADA's gradient of 1 for levels.
pub struct Chosen {
    space: Arc<Space>,
    draw: Arc<Draw>,
    map: Tensor,
    value: Tensor,
}

impl Chosen {
    /// The refined map.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`, and the same again.
    pub fn of(map: &Tensor, space: &Arc<Space>, draw: &Arc<Draw>, relaxed: &Relaxed) -> Result<Tensor> {
        let chosen = Self {
            value: drawn(space, draw, &map.detach())?.force_contiguous()?,
            map: map.detach(),
            space: Arc::clone(space),
            draw: Arc::clone(draw),
        };
        Ok(relaxed.choice.apply_op3(&relaxed.bits, &relaxed.levels, chosen)?)
    }

    /// ⟨G, s(F)⟩ for every sub-policy s.
    fn of_choice(&self, gradient: &Tensor) -> Result<Vec<f64>> {
        let Draw { bits, levels, key, .. } = &*self.draw;
        let mut untouched = None;
        let mut of_pair = |pair: usize| -> Result<f64> {
            match (bits[pair], untouched) {
                ([false, false], Some(product)) => Ok(product),
                (bits, _) => {
                    let map = self.space.apply(&self.map, pair, bits, levels[pair], *key)?;
                    let product = inner(gradient, &map)?;
                    if bits == [false, false] {
                        untouched = Some(product);
                    }
                    Ok(product)
                }
            }
        };
        (0..bits.len()).map(&mut of_pair).collect()
    }

    /// ⟨G, the pair with a bit set − the pair with it unset⟩, the other bit as drawn.
    fn of_bits(&self, gradient: &Tensor) -> Result<Vec<f64>> {
        let Draw { pair, bits, levels, key, .. } = &*self.draw;
        let with = |place: usize, bit: bool| -> Result<f64> {
            let mut bits = bits[*pair];
            let drawn = bits[place] == bit;
            bits[place] = bit;
            // One of the two stands here already.
            let map = match drawn {
                true => self.value.clone(),
                false => self.space.apply(&self.map, *pair, bits, levels[*pair], *key)?,
            };
            inner(gradient, &map)
        };
        (0..2).map(|place| Ok(with(place, true)? - with(place, false)?)).collect()
    }

    /// The sum over G where the bit is set.
    fn of_levels(&self, gradient: &Tensor) -> Result<Vec<f64>> {
        let bits = self.draw.bits[self.draw.pair];
        if bits == [false, false] {
            return Ok(vec![0.0; 2]);
        }
        let sum = sum(gradient)?;
        Ok(bits.iter().map(|&bit| if bit { sum } else { 0.0 }).collect())
    }
}

/// What the sub-policy drawn makes of a map, differentiable in the map.
pub(crate) fn drawn(space: &Space, draw: &Draw, map: &Tensor) -> Result<Tensor> {
    space.apply(map, draw.pair, draw.bits[draw.pair], draw.levels[draw.pair], draw.key)
}

/// ⟨a, b⟩ over all numbers of two maps.
fn inner(a: &Tensor, b: &Tensor) -> Result<f64> {
    sum(&(a * b)?)
}

/// Row by row and then in double precision: these sums over a million numbers are later subtracted from each other.
fn sum(map: &Tensor) -> Result<f64> {
    let (batch, height, ..) = map.dims4()?;
    let rows = map.reshape((batch * height, ()))?.sum(1)?.to_device(&candle::Device::Cpu)?;
    Ok(rows.to_dtype(candle::DType::F64)?.to_vec1::<f64>()?.into_iter().sum())
}

impl CustomOp3 for Chosen {
    fn name(&self) -> &'static str {
        "chosen"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle::Result<(CpuStorage, Shape)> {
        match &*self.value.storage_and_layout().0 {
            Storage::Cpu(storage) => {
                Ok((storage.try_clone(self.value.layout())?, self.value.shape().clone()))
            }
            _ => elsewhere(),
        }
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle::Result<(CudaStorage, Shape)> {
        match &*self.value.storage_and_layout().0 {
            Storage::Cuda(storage) => {
                Ok((storage.try_clone(self.value.layout())?, self.value.shape().clone()))
            }
            _ => elsewhere(),
        }
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle::Result<(MetalStorage, Shape)> {
        match &*self.value.storage_and_layout().0 {
            Storage::Metal(storage) => {
                Ok((storage.try_clone(self.value.layout())?, self.value.shape().clone()))
            }
            _ => elsewhere(),
        }
    }

    fn bwd(
        &self,
        choice: &Tensor,
        bits: &Tensor,
        levels: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of = |argument: &Tensor, values: &dyn Fn(&Tensor) -> Result<Vec<f64>>| match argument.track_op() {
            true => {
                let values = values(gradient).map_err(candle::Error::wrap)?;
                Tensor::new(values, &candle::Device::Cpu)?
                    .to_dtype(argument.dtype())?
                    .to_device(argument.device())
                    .map(Some)
            }
            false => Ok(None),
        };
        Ok((
            of(choice, &|gradient| self.of_choice(gradient))?,
            of(bits, &|gradient| self.of_bits(gradient))?,
            of(levels, &|gradient| self.of_levels(gradient))?,
        ))
    }
}

fn elsewhere<T>() -> candle::Result<T> {
    candle::bail!("the policy and the teacher's map are on different devices")
}
