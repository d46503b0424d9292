use crate::backend::gpu_for;
use crate::gpu::Arg;
use crate::{GridPadding, GridSample, affine_grid, grid_sample, permute_channels, put_, record};
use candle::{DType, Tensor};
use sokd_core::{Error, Result};
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
    /// To each number of the batch one of its own: `(batch, height, width, channels)` in a row.
    Add(Vec<f32>),
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
            Self::Add(numbers) => Ok((map + like_map(numbers.clone(), [batch, height, width, channels])?)?),
            Self::Other(change) => change(map),
        }
    }

    /// As a kernel reads it (`kernels/change.cu`): its kind, where it looks, what it cuts, and a number for each channel.
    fn words(&self, channels: usize) -> Result<Vec<f32>> {
        let mut words = vec![0.0; HEAD + channels];
        words[0] = match self {
            Self::Nothing => 0.0,
            Self::Look(theta) => {
                let theta = theta.as_flattened().iter().map(|&number| number as f32);
                words[1..].iter_mut().zip(theta).for_each(|(word, number)| *word = number);
                1.0
            }
            Self::Cut([rows, columns]) => {
                let bounds = [rows.start, rows.end, columns.start, columns.end].map(|bound| bound as f32);
                words[7..HEAD].copy_from_slice(&bounds);
                2.0
            }
            Self::Scale(scales) => {
                words[HEAD..].iter_mut().zip(scales).for_each(|(word, scale)| *word = *scale);
                3.0
            }
            Self::Order(order) => {
                words[HEAD..].iter_mut().zip(order).for_each(|(word, &channel)| *word = channel as f32);
                4.0
            }
            Self::Add(_) => 5.0,
            Self::Other(_) => return Err(Error::setting("change", "a GPU has no kernel for one of its own")),
        };
        Ok(words)
    }
}

/// Words in front of those of the channels.
const HEAD: usize = 11;

/// Two changes, one after the other, where a GPU reads them: told to change a map [again](crate::Replay), it does to it what was laid
/// down since. No gradient passes.
pub struct Laid {
    shape: [usize; 4],
    /// `(2, words)`.
    table: Tensor,
    /// What is added, like the map.
    numbers: Option<Tensor>,
}

impl Laid {
    /// Whether a GPU's kernels of ours would read changes of such maps.
    pub fn reaches(map: &Tensor) -> bool {
        gpu_for(&[map]).is_some()
    }

    /// A place for changes of maps like this one, which may `add` numbers; `None` where no GPU's kernels run.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`.
    pub fn place(map: &Tensor, adds: bool) -> Result<Option<Self>> {
        let (batch, height, width, channels) = map.dims4()?;
        if !Self::reaches(map) {
            return Ok(None);
        }
        let table = Tensor::zeros((2, HEAD + channels), DType::F32, map.device())?;
        let numbers = adds.then(|| map.zeros_like()).transpose()?;
        Ok(Some(Self { shape: [batch, height, width, channels], table, numbers }))
    }

    /// Lays two changes down.
    ///
    /// # Errors
    /// [`Error::Setting`] for a change of its own kind, and for numbers to add where there is no place for them.
    pub fn lay(&self, [first, second]: [&Change; 2]) -> Result<()> {
        let [.., channels] = self.shape;
        let (mut words, mut second_words) = (first.words(channels)?, second.words(channels)?);
        let added = match (first, second) {
            // Side by side, they are one.
            (Change::Add(first), Change::Add(second)) => {
                second_words[0] = 0.0;
                Some(first.iter().zip(second).map(|(first, second)| first + second).collect())
            }
            (Change::Add(numbers), _) | (_, Change::Add(numbers)) => Some(numbers.clone()),
            _ => None,
        };
        words.append(&mut second_words);
        put_(&self.table, &Tensor::new(words, self.table.device())?)?;
        let Some(added) = added else { return Ok(()) };
        let Some(place) = &self.numbers else {
            return Err(Error::setting("change", "numbers are added where there is no place for them"));
        };
        put_(place, &Tensor::from_vec(added, &self.shape, place.device())?)
    }

    /// A map as the changes leave it, on no graph.
    ///
    /// # Errors
    /// [`Error::Shape`] for one of another shape than the place's.
    pub fn change(&self, map: &Tensor) -> Result<Tensor> {
        if map.dims() != self.shape {
            let expected = format!("{:?}", self.shape);
            return Err(Error::Shape { what: "a map", expected, got: map.dims().to_vec() });
        }
        let gpu = gpu_for(&[map]).ok_or_else(|| Error::setting("change", "the map is on no GPU"))?;
        let reads = [Some(&map.contiguous()?), Some(&self.table), self.numbers.as_ref()];
        let [_, height, width, channels] = self.shape;
        let sizes = [height, width, channels].map(Arg::Int);
        Ok(record::tensor(gpu.each_of("change_twice", reads, map.elem_count(), sizes)?, map.shape()))
    }
}

#[cfg(all(test, feature = "mirror"))]
mod tests {
    use super::*;
    use crate::{Backend, with_backend};
    use candle::Device;

    const SHAPE: [usize; 4] = [2, 5, 6, 3];

    fn changes() -> Vec<Change> {
        let numbers =
            |count: usize| (0..count).map(|at| (at * 37 % 19) as f32 * 0.1 - 0.9).collect::<Vec<_>>();
        vec![
            Change::Nothing,
            Change::Look([[1.0, 0.3, 0.0], [0.0, 1.0, 0.0]]),
            Change::Look([[0.8, -0.6, 0.2], [0.6, 0.8, -0.1]]),
            Change::Cut([1..4, 2..6]),
            Change::Scale(vec![0.0, 1.5, 1.0]),
            Change::Order(vec![2, 0, 1]),
            Change::Add(numbers(SHAPE.iter().product())),
        ]
    }

    fn map() -> Result<Tensor> {
        let numbers = (0..SHAPE.iter().product()).map(|at: usize| (at * 89 % 251) as f32 / 125.0 - 1.0);
        Ok(Tensor::from_iter(numbers, &Device::Cpu)?.reshape(&SHAPE)?)
    }

    #[test]
    fn a_kernel_makes_one_change_after_the_other() -> Result<()> {
        let map = map()?;
        assert!(Laid::place(&map, true)?.is_none(), "on a CPU nobody reads it");
        with_backend(Backend::Mirror, || {
            let place = Laid::place(&map, true)?.expect("the mirror is a GPU");
            for (at, first) in changes().iter().enumerate() {
                for (then, second) in changes().iter().enumerate() {
                    place.lay([first, second])?;
                    let (found, due) = (place.change(&map)?, second.apply(&first.apply(&map)?)?);
                    let apart = (found - due)?.sqr()?.max_all()?.to_scalar::<f32>()?.sqrt();
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
    fn what_has_no_place_is_refused() -> Result<()> {
        with_backend(Backend::Mirror, || {
            let place = Laid::place(&map()?, false)?.expect("the mirror is a GPU");
            let own = Change::Other(Box::new(|map| Ok((map * 2.0)?)));
            let added = &changes()[6];
            for change in [&own, added] {
                assert!(place.lay([change, &Change::Nothing]).is_err());
            }
            assert!(place.change(&map()?.narrow(0, 0, 1)?).is_err(), "another shape");
            Ok(())
        })
    }
}
