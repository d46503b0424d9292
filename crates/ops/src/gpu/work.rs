use super::launch::int;
use crate::Pool;
use crate::kernels::geometry::Geometry;
use candle::{Result, Tensor};

/// How a window moves over a map, as kernels have it (`kernels/common.h`): height first in each pair.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    map: [i32; 2],
    to: [i32; 2],
    size: [i32; 2],
    stride: [i32; 2],
    padding: [i32; 2],
    dilation: [i32; 2],
}

/// Sides of maps, whose pixels `launch` counts once more.
fn pair(sides: [usize; 2]) -> [i32; 2] {
    sides.map(|side| i32::try_from(side).unwrap_or(i32::MAX))
}

impl From<&Geometry> for Window {
    fn from(geometry: &Geometry) -> Self {
        let conv = geometry.conv;
        Self {
            map: pair(geometry.input),
            to: pair(geometry.output),
            size: pair(geometry.kernel),
            stride: pair(conv.stride),
            padding: pair(conv.padding),
            dilation: pair(conv.dilation),
        }
    }
}

impl Window {
    /// That of a pool over maps of this size.
    pub(crate) fn of_pool(pool: Pool, map: [usize; 2], to: [usize; 2]) -> Self {
        let (size, stride, padding) = (pair(pool.kernel), pair(pool.stride), pair(pool.padding));
        Self { map: pair(map), to: pair(to), size, stride, padding, dilation: [1; 2] }
    }
}

/// Tensors of one launch, at most (`kernels/common.h`): a power of two.
pub(super) const MANY: usize = 128;

/// Where each of some tensors begins; 0 behind the last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses(pub(super) [u64; MANY]);

/// With which of all their numbers in a row each of some tensors begins; with none, behind the last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firsts([i32; MANY]);

/// A number for each of some tensors; 0 behind the last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floats([f32; MANY]);

impl Floats {
    pub(super) fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut all = [0.0; MANY];
        all.iter_mut().zip(numbers).for_each(|(one, number)| *one = number as f32);
        Self(all)
    }
}

impl Firsts {
    /// And how many numbers they have together.
    pub(super) fn of<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<(Self, usize)> {
        let (mut firsts, mut count) = ([i32::MAX; MANY], 0);
        for (first, tensor) in firsts.iter_mut().zip(tensors) {
            *first = int(count)?;
            count += tensor.elem_count();
        }
        Ok((Self(firsts), count))
    }
}
