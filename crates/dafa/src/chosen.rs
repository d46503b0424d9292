use crate::{Draw, Relaxed, Space};
use candle::backend::BackendStorage;
use candle::{
    CpuStorage, CudaStorage, CustomOp3, DType, Device, Layout, MetalStorage, Shape, Storage, Tensor,
};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use sokd_core::Result;
use sokd_ops::Laid;
use std::sync::Arc;

/// A draw, as it changes maps.
#[derive(Clone)]
pub enum Drawn {
    /// Operation by operation, differentiable in the map.
    Told(Arc<Space>, Arc<Draw>),
    /// By a GPU that reads it, on no graph; and the bits of the sub-policy drawn, `(2,)`.
    Laid(Arc<Laid>, Tensor),
}

/// A refined map that the policy answers for: its values are those of the sub-policy drawn, to the bit, and its gradient
/// G goes to the policy, by a linear map that asks every sub-policy what it would have made of the teacher's map.
///
/// With ⟨·, ·⟩ the sum over all numbers of the batch, k the sub-policy drawn and ō the operation executed as its bit says:
///
/// - the choice: ⟨G, s(F)⟩ for every sub-policy s, each evaluated by itself and forgotten: on all threads, or by one kernel of a GPU;
/// - the bits of k: ⟨G, what the pair gives with the bit set less what it gives without⟩;
/// - the levels of k: the sum over G where the bit is set, else 0.
///
/// Only what a graph tracks is computed. The teacher's map gets no gradient.
///
/// # Source
/// Equations (E1) to (E4) of the book's page on DAFA: straight-through values, Gumbel-Softmax gradients for choice and
/// bits, and SoKD's and DADA's gradient of 1 for levels.
pub struct Chosen {
    drawn: Drawn,
    map: Tensor,
    value: Tensor,
}

impl Chosen {
    /// The refined map.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`, and the same again.
    pub fn of(map: &Tensor, drawn: &Drawn, relaxed: &Relaxed) -> Result<Tensor> {
        let map = map.detach();
        let value = match drawn {
            // Nothing may have been done to it, and it may be a part of something larger.
            Drawn::Told(..) => drawn.change(&map)?.force_contiguous()?,
            Drawn::Laid(..) => drawn.change(&map)?,
        };
        let chosen = Self { value, map, drawn: drawn.clone() };
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

    /// Of the choice, of the bits and of the levels, those that are wanted.
    fn gradients(&self, gradient: &Tensor, wanted: [bool; 3]) -> Result<[Option<Tensor>; 3]> {
        match &self.drawn {
            Drawn::Told(space, draw) => {
                let asked = Asked { space, draw, map: &self.map, value: &self.value, gradient };
                let told =
                    |numbers: Result<Vec<f64>>| -> Result<_> { Ok(Tensor::new(numbers?, &Device::Cpu)?) };
                let [choice, bits, levels] = wanted;
                Ok([
                    choice.then(|| told(asked.of_choice())).transpose()?,
                    bits.then(|| told(asked.of_bits())).transpose()?,
                    levels.then(|| told(asked.of_levels())).transpose()?,
                ])
            }
            Drawn::Laid(laid, bits) => {
                let [mut choice, mut of_bits] = [None, None];
                if wanted[0] || wanted[1] {
                    // As `Space::questions` has them, behind what was drawn: all sub-policies, then both bits set and unset.
                    let sums = laid.inner(&self.map, gradient)?;
                    let sums = sums.narrow(0, 1, sums.dim(0)? - 1)?;
                    let pairs = sums.dim(0)? - 4;
                    choice = Some(sums.narrow(0, 0, pairs)?);
                    let beside = sums.narrow(0, pairs, 4)?.reshape((2, 2))?;
                    of_bits = Some((beside.narrow(1, 0, 1)? - beside.narrow(1, 1, 1)?)?.squeeze(1)?);
                }
                let levels = || -> Result<Tensor> {
                    let sum = rows(gradient)?.to_dtype(DType::F64)?.sum_all()?;
                    Ok(bits.to_dtype(DType::F64)?.broadcast_mul(&sum)?)
                };
                Ok([choice, of_bits, wanted[2].then(levels).transpose()?])
            }
        }
    }
}

impl Drawn {
    /// What the sub-policy drawn makes of a map.
    pub(crate) fn change(&self, map: &Tensor) -> Result<Tensor> {
        match self {
            Self::Told(space, draw) => {
                space.apply(map, draw.pair, draw.bits[draw.pair], draw.levels[draw.pair], draw.key)
            }
            Self::Laid(laid, _) => laid.change(map),
        }
    }
}

/// A gradient of what a draw has made of a map, and who is asked what it means, operation by operation.
struct Asked<'a> {
    space: &'a Space,
    draw: &'a Draw,
    map: &'a Tensor,
    value: &'a Tensor,
    gradient: &'a Tensor,
}

impl Asked<'_> {
    /// ⟨G, s(F)⟩ for every sub-policy s.
    fn of_choice(&self) -> Result<Vec<f64>> {
        let Draw { bits, levels, key, .. } = self.draw;
        let untouched = inner(self.gradient, self.map)?;
        let of_pair = |pair: usize| match bits[pair] {
            [false, false] => Ok(untouched),
            bits => inner(self.gradient, &self.space.apply(self.map, pair, bits, levels[pair], *key)?),
        };
        // Each is the work of one thread, so that sums keep their order.
        (0..bits.len()).into_par_iter().map(of_pair).collect()
    }

    /// ⟨G, the pair with a bit set − the pair with it unset⟩, the other bit as drawn.
    fn of_bits(&self) -> Result<Vec<f64>> {
        let Draw { pair, bits, levels, key, .. } = self.draw;
        let with = |place: usize, bit: bool| -> Result<f64> {
            let mut bits = bits[*pair];
            // One of the two stands here already.
            if bits[place] == bit {
                return inner(self.gradient, self.value);
            }
            bits[place] = bit;
            inner(self.gradient, &self.space.apply(self.map, *pair, bits, levels[*pair], *key)?)
        };
        (0..2).map(|place| Ok(with(place, true)? - with(place, false)?)).collect()
    }

    /// The sum over G where the bit is set.
    fn of_levels(&self) -> Result<Vec<f64>> {
        let bits = self.draw.bits[self.draw.pair];
        if bits == [false, false] {
            return Ok(vec![0.0; 2]);
        }
        let sum = sum(self.gradient)?;
        Ok(bits.iter().map(|&bit| if bit { sum } else { 0.0 }).collect())
    }
}

/// ⟨a, b⟩ over all numbers of two maps.
fn inner(a: &Tensor, b: &Tensor) -> Result<f64> {
    sum(&(a * b)?)
}

fn sum(map: &Tensor) -> Result<f64> {
    let rows = rows(map)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(rows.to_vec1::<f64>()?.into_iter().sum())
}

/// Sums of rows, to be added up in double precision: those over a million numbers are later subtracted from each other.
fn rows(map: &Tensor) -> candle::Result<Tensor> {
    let (batch, height, ..) = map.dims4()?;
    map.reshape((batch * height, ()))?.sum(1)
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
        let arguments = [choice, bits, levels];
        let found = self.gradients(gradient, arguments.map(Tensor::track_op)).map_err(candle::Error::wrap)?;
        let like = |(found, argument): (Option<Tensor>, &Tensor)| {
            found.map(|found| found.to_dtype(argument.dtype())?.to_device(argument.device())).transpose()
        };
        let [of_choice, of_bits, of_levels] = found;
        Ok((like((of_choice, choice))?, like((of_bits, bits))?, like((of_levels, levels))?))
    }
}
