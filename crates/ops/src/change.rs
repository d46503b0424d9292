use crate::backend::gpu_for;
use crate::fast::normals;
use crate::gpu::{Arg, Gpu};
use crate::{GridPadding, GridSample, affine_grid, grid_sample, permute_channels, record};
use candle::{DType, Tensor};
use sokd_core::{Error, Key, Result};
use std::ops::Range;

/// What becomes of a map, differentiable in it.
type Own = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// What happens to every map of a batch alike.
pub enum Change {
    /// Nothing, to the bit.
    Nothing,
    /// `new(p) = old(theta · p)` for p in [-1, 1]², x before y: bilinear, zeros outside.
    Look([[f64; 3]; 2]),
    /// Zeros where these rows meet these columns.
    Cut([Range<usize>; 2]),
    /// Each channel, times a number of its own: `(channels,)`.
    Scale(Vec<f32>),
    /// In place of each channel the one that stands here: `(channels,)`.
    Order(Vec<u32>),
    /// To each number of the batch a normal one of its own, of this deviation: drawn by its place in the key's stream.
    Noise(f32, Key),
    /// Anything else, differentiable in the map. Nobody can [lay it down](Laid) for a GPU.
    Other(Own),
}

impl Change {
    /// The map changed, differentiable in it.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`, and the same again.
    pub fn apply(&self, map: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = map.dims4()?;
        let like_map = |numbers: Vec<f32>, shape: [usize; 4]| -> Result<Tensor> {
            Ok(Tensor::from_vec(numbers, &shape, map.device())?.to_dtype(map.dtype())?)
        };
        match self {
            Self::Nothing => Ok(map.clone()),
            Self::Look(theta) => {
                let theta = Tensor::new(&[*theta], map.device())?.to_dtype(map.dtype())?;
                let grid = affine_grid(&theta, [height, width], false)?;
                // Where a pixel looks is two numbers and what it finds is its channels: a copy for each image costs nothing.
                let grid = grid.broadcast_as((batch, height, width, 2))?.contiguous()?;
                let padding = GridPadding::Zeros;
                grid_sample(map, &grid, GridSample { nearest: false, padding, align_corners: false })
            }
            Self::Cut([rows, columns]) => {
                let inside = |at: usize| rows.contains(&(at / width)) && columns.contains(&(at % width));
                let mask = (0..height * width).map(|at| f32::from(u8::from(!inside(at)))).collect();
                Ok(map.broadcast_mul(&like_map(mask, [1, height, width, 1])?)?)
            }
            Self::Scale(scales) => Ok(map.broadcast_mul(&like_map(scales.clone(), [1, 1, 1, channels])?)?),
            Self::Order(order) => permute_channels(map, order),
            Self::Noise(deviation, key) => {
                let noise = normals(*key, *deviation, map.elem_count());
                Ok((map + like_map(noise, [batch, height, width, channels])?)?)
            }
            Self::Other(change) => change(map),
        }
    }

    /// As a kernel reads it (`kernels/change.cu`): its kind, six numbers of where it looks or five of its noise, what it cuts, and a
    /// number for each channel.
    fn words(&self, channels: usize) -> Result<Vec<f32>> {
        let mut words = vec![0.0; HEAD + channels];
        let (kind, from, numbers): (f32, usize, Vec<f32>) = match self {
            Self::Nothing => (0.0, 1, Vec::new()),
            Self::Look(theta) => (1.0, 1, theta.as_flattened().iter().map(|&number| number as f32).collect()),
            Self::Cut([rows, columns]) => {
                let bounds = [rows.start, rows.end, columns.start, columns.end];
                (2.0, 7, bounds.map(|bound| bound as f32).into())
            }
            Self::Scale(scales) => (3.0, HEAD, scales.clone()),
            Self::Order(order) => (4.0, HEAD, order.iter().map(|&channel| channel as f32).collect()),
            Self::Noise(deviation, key) => {
                // By halves, which single precision holds.
                let halves = key.words().map(|word| [(word >> 16) as f32, (word & 0xffff) as f32]);
                (5.0, 1, [&[*deviation], halves.as_flattened()].concat())
            }
            Self::Other(_) => return Err(Error::setting("change", "a GPU has no kernel for one of its own")),
        };
        words[0] = kind;
        words[from..from + numbers.len()].copy_from_slice(&numbers);
        Ok(words)
    }
}

/// Words in front of those of the channels.
const HEAD: usize = 11;

/// Blocks that share a pair's sum.
const APART: usize = 32;

/// Pairs of changes, the second after the first, where a GPU reads them: told to change a map [again](crate::Replay), it does to it
/// what was laid down since. No gradient passes.
pub struct Laid {
    shape: [usize; 4],
    /// `(pairs, 2, words)`.
    table: Tensor,
}

impl Laid {
    /// Whether a GPU's kernels of ours would read changes of such maps.
    pub fn reaches(map: &Tensor) -> bool {
        gpu_for(&[map]).is_some()
    }

    /// A place for so many pairs of changes of maps like this one; `None` where no GPU's kernels run.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`.
    pub fn place(map: &Tensor, pairs: usize) -> Result<Option<Self>> {
        let (batch, height, width, channels) = map.dims4()?;
        if !Self::reaches(map) {
            return Ok(None);
        }
        let table = Tensor::zeros((pairs, 2, HEAD + channels), DType::F32, map.device())?;
        Ok(Some(Self { shape: [batch, height, width, channels], table }))
    }

    /// Lays pairs down, as many as there are places for or the first few.
    ///
    /// # Errors
    /// [`Error::Setting`] for a change of its own kind; where there are more pairs than places.
    pub fn lay(&self, pairs: &[[Change; 2]]) -> Result<()> {
        let [.., channels] = self.shape;
        let words = pairs.as_flattened().iter().map(|change| change.words(channels));
        let words = words.collect::<Result<Vec<_>>>()?.concat();
        let words = Tensor::from_vec(words, (pairs.len(), 2, HEAD + channels), self.table.device())?;
        Ok(self.table.slice_set(&words, 0, 0)?)
    }

    /// A map as the first pair leaves it, on no graph.
    ///
    /// # Errors
    /// [`Error::Shape`] for one of another shape than the place's.
    pub fn change(&self, map: &Tensor) -> Result<Tensor> {
        let gpu = self.gpu([map])?;
        let [_, height, width, channels] = self.shape;
        let sizes = [height, width, channels].map(Arg::Int);
        let changed = gpu.each("change_twice", [&map.contiguous()?, &self.table], map.elem_count(), sizes)?;
        Ok(record::tensor(changed, map.shape()))
    }

    /// For each pair the sum of all numbers that it makes of a map, times those of another: `(pairs,)`, in double precision, on no
    /// graph.
    ///
    /// # Errors
    /// [`Error::Shape`] for maps of another shape than the place's.
    pub fn inner(&self, map: &Tensor, other: &Tensor) -> Result<Tensor> {
        let (gpu, pairs) = (self.gpu([map, other])?, self.table.dim(0)?);
        let [_, height, width, channels] = self.shape;
        let sums = Tensor::zeros((pairs, APART), DType::F64, map.device())?;
        let (map, other) = (map.contiguous()?, other.contiguous()?);
        let mut args: Vec<_> = [&map, &self.table, &other].map(Arg::from).into();
        args.push(Arg::Change(Some(&sums)));
        args.extend([map.elem_count(), APART, height, width, channels].map(Arg::Int));
        gpu.launch("inner_of_changes", pairs * APART, args)?;
        Ok(sums.sum(1)?)
    }

    fn gpu<const N: usize>(&self, maps: [&Tensor; N]) -> Result<Gpu> {
        if let Some(map) = maps.into_iter().find(|map| map.dims() != self.shape) {
            let expected = format!("{:?}", self.shape);
            return Err(Error::Shape { what: "a map", expected, got: map.dims().to_vec() });
        }
        gpu_for(&maps).ok_or_else(|| Error::setting("change", "the map is on no GPU"))
    }
}

#[cfg(all(test, feature = "mirror"))]
mod tests {
    use super::*;
    use crate::{Backend, with_backend};
    use candle::Device;

    const SHAPE: [usize; 4] = [2, 5, 6, 3];

    fn changes() -> [Change; 7] {
        [
            Change::Nothing,
            Change::Look([[1.0, 0.3, 0.0], [0.0, 1.0, 0.0]]),
            Change::Look([[0.8, -0.6, 0.2], [0.6, 0.8, -0.1]]),
            Change::Cut([1..4, 2..6]),
            Change::Scale(vec![0.0, 1.5, 1.0]),
            Change::Order(vec![2, 0, 1]),
            Change::Noise(0.7, Key::new(8)),
        ]
    }

    fn map(factor: usize) -> Result<Tensor> {
        let numbers = (0..SHAPE.iter().product()).map(|at: usize| (at * factor % 251) as f32 / 125.0 - 1.0);
        Ok(Tensor::from_iter(numbers, &Device::Cpu)?.reshape(&SHAPE)?)
    }

    #[test]
    fn a_kernel_makes_one_change_after_the_other() -> Result<()> {
        let map = map(89)?;
        assert!(Laid::place(&map, 1)?.is_none(), "on a CPU nobody reads it");
        with_backend(Backend::Mirror, || {
            let place = Laid::place(&map, 1)?.expect("the mirror is a GPU");
            for at in 0..changes().len() {
                for then in 0..changes().len() {
                    let pair = [changes().into_iter().nth(at), changes().into_iter().nth(then)];
                    let pair = pair.map(|change| change.expect("one of them"));
                    let due = pair[1].apply(&pair[0].apply(&map)?)?;
                    place.lay(&[pair])?;
                    let apart = (place.change(&map)? - due)?.sqr()?.max_all()?.to_scalar::<f32>()?.sqrt();
                    assert!(
                        apart < if at + then == 0 { f32::MIN_POSITIVE } else { 2e-6 },
                        "{at}, {then}: {apart}"
                    );
                }
            }
            Ok(())
        })
    }

    #[test]
    fn a_kernel_adds_up_what_all_pairs_make() -> Result<()> {
        let (map, other) = (map(89)?, map(41)?);
        with_backend(Backend::Mirror, || {
            let pairs: Vec<_> = changes().into_iter().zip(changes().into_iter().rev()).collect();
            let due = |(first, second): &(Change, Change)| -> Result<f64> {
                let made = second.apply(&first.apply(&map)?)?;
                Ok((made * &other)?.to_dtype(DType::F64)?.sum_all()?.to_scalar()?)
            };
            let due = pairs.iter().map(due).collect::<Result<Vec<_>>>()?;
            let place = Laid::place(&map, pairs.len())?.expect("the mirror is a GPU");
            let pairs: Vec<_> = pairs.into_iter().map(|(first, second)| [first, second]).collect();
            place.lay(&pairs)?;
            for (found, due) in place.inner(&map, &other)?.to_vec1::<f64>()?.into_iter().zip(due) {
                assert!((found - due).abs() < 2e-5, "{found} for {due}");
            }
            // Those behind the first few stay.
            place.lay(&pairs[3..4])?;
            let all = place.inner(&map, &other)?.to_vec1::<f64>()?;
            assert_eq!(all[0].to_bits(), all[3].to_bits());
            Ok(())
        })
    }

    #[test]
    fn what_has_no_place_is_refused() -> Result<()> {
        with_backend(Backend::Mirror, || {
            let place = Laid::place(&map(89)?, 1)?.expect("the mirror is a GPU");
            let own = Change::Other(Box::new(|map| Ok((map * 2.0)?)));
            assert!(place.lay(&[[own, Change::Nothing]]).is_err());
            let nothing = || [Change::Nothing, Change::Nothing];
            assert!(place.lay(&[nothing(), nothing()]).is_err(), "one pair too many");
            let part = map(89)?.narrow(0, 0, 1)?;
            assert!(place.change(&part).is_err() && place.inner(&map(89)?, &part).is_err(), "another shape");
            Ok(())
        })
    }
}
