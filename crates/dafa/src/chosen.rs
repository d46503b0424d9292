use crate::{Draw, Relaxed, Space};
use candle::backend::BackendStorage;
use candle::{
    CpuStorage, CudaStorage, CustomOp3, DType, Device, Layout, MetalStorage, Shape, Storage, Tensor,
};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use sokd_core::Result;
use std::sync::Arc;

/// A refined map that the policy answers for: its values are those of the sub-policy drawn, to the bit, and its gradient
/// G goes to the policy, by a linear map that asks every sub-policy what it would have made of the teacher's map.
///
/// With ⟨·, ·⟩ the sum over all numbers of the batch, k the sub-policy drawn and ō the operation executed as its bit says:
///
/// - the choice: ⟨G, s(F)⟩ for every sub-policy s, each evaluated by itself and forgotten, on all threads;
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

    /// A copy of the refined map's values, where they are stored as they should be.
    fn values<S: BackendStorage>(&self, of: impl Fn(&Storage) -> Option<&S>) -> candle::Result<(S, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        match of(&storage) {
            Some(storage) => Ok((storage.try_clone(layout)?, self.value.shape().clone())),
            None => candle::bail!("the policy and the teacher's map are on different devices"),
        }
    }

    /// ⟨G, s(F)⟩ for every sub-policy s.
    fn of_choice(&self, gradient: &Tensor) -> Result<Vec<f64>> {
        let Draw { bits, levels, key, .. } = &*self.draw;
        let untouched = inner(gradient, &self.map)?;
        let of_pair = |pair: usize| match bits[pair] {
            [false, false] => Ok(untouched),
            bits => inner(gradient, &self.space.apply(&self.map, pair, bits, levels[pair], *key)?),
        };
        // Each is the work of one thread, so that sums keep their order.
        (0..bits.len()).into_par_iter().map(of_pair).collect()
    }

    /// ⟨G, the pair with a bit set − the pair with it unset⟩, the other bit as drawn.
    fn of_bits(&self, gradient: &Tensor) -> Result<Vec<f64>> {
        let Draw { pair, bits, levels, key, .. } = &*self.draw;
        let with = |place: usize, bit: bool| -> Result<f64> {
            let mut bits = bits[*pair];
            let drawn = bits[place] == bit;
            bits[place] = bit;
            // One of the two stands here already.
            let map = if drawn {
                self.value.clone()
            } else {
                self.space.apply(&self.map, *pair, bits, levels[*pair], *key)?
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
    let rows = map.reshape((batch * height, ()))?.sum(1)?.to_device(&Device::Cpu)?;
    Ok(rows.to_dtype(DType::F64)?.to_vec1::<f64>()?.into_iter().sum())
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
        self.values(|storage| match storage {
            Storage::Cpu(storage) => Some(storage),
            _ => None,
        })
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
        self.values(|storage| match storage {
            Storage::Cuda(storage) => Some(storage),
            _ => None,
        })
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
        self.values(|storage| match storage {
            Storage::Metal(storage) => Some(storage),
            _ => None,
        })
    }

    fn bwd(
        &self,
        choice: &Tensor,
        bits: &Tensor,
        levels: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of = |argument: &Tensor, values: &dyn Fn(&Tensor) -> Result<Vec<f64>>| {
            if !argument.track_op() {
                return Ok(None);
            }
            let values = values(gradient).map_err(candle::Error::wrap)?;
            let values = Tensor::new(values, &Device::Cpu)?.to_dtype(argument.dtype())?;
            values.to_device(argument.device()).map(Some)
        };
        Ok((
            of(choice, &|gradient| self.of_choice(gradient))?,
            of(bits, &|gradient| self.of_bits(gradient))?,
            of(levels, &|gradient| self.of_levels(gradient))?,
        ))
    }
}
