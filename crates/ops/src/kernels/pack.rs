//! Weights in the order in which the micro-kernel reads them.

use super::buffer::{Scratch, Shared};
use super::geometry::{Geometry, Walk};
use crate::simd::{Simd, transpose};
use crate::threads::par;

/// A few vectors of output channels that are summed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Its first channel.
    pub start: usize,
    /// How many channels.
    pub channels: usize,
    /// How many vectors: 1 or 2.
    pub vectors: usize,
}

/// Parts `channels` into blocks of two vectors, and a last one of one or two.
pub(crate) fn blocks(channels: usize, lanes: usize) -> impl Iterator<Item = Block> + Clone {
    (0..channels).step_by(2 * lanes).map(move |start| {
        let left = (channels - start).min(2 * lanes);
        Block { start, channels: left, vectors: left.div_ceil(lanes) }
    })
}

/// Which way the weights are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From inputs to outputs.
    Forward,
    /// From the gradients of outputs to those of inputs.
    Backward,
}

impl Direction {
    /// How many channels are read and written, in each group.
    pub(crate) fn channels(self, geometry: &Geometry) -> (usize, usize) {
        match self {
            Self::Forward => (geometry.group_from(), geometry.group_to()),
            Self::Backward => (geometry.group_to(), geometry.group_from()),
        }
    }
}

/// Which weights a tile meets one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Those of all channels read, tap by tap.
    TapByTap,
    /// Those of all taps in a row, channel by channel.
    Abreast,
}

/// The weights of one walk, block by block: `[block][tap][channel read][channel written, rounded up to vectors]`,
/// or `[block][row of taps][channel read][tap][channel written]` where taps stand abreast.
pub(crate) struct Packed {
    floats: Scratch,
    /// Floats of a whole block of two vectors.
    whole: usize,
    lanes: usize,
}

impl Packed {
    /// Packs group `group` of a kernel for `walk`.
    pub(crate) fn new(
        simd: Simd,
        geometry: &Geometry,
        direction: Direction,
        walk: &Walk,
        order: Order,
        kernel: &[f32],
        group: usize,
    ) -> Self {
        let (read, written) = direction.channels(geometry);
        let lanes = simd.lanes();
        let rows = walk.taps() * read;
        let whole = rows * 2 * lanes;
        let blocks: Vec<Block> = blocks(written, lanes).collect();
        let mut floats = Scratch::any(blocks.iter().map(|block| rows * block.vectors * lanes).sum());
        let to = Shared::to(&mut floats);
        par(blocks.len(), |index| {
            let block = blocks[index];
            // SAFETY: the blocks lie one behind the other, and each piece writes its own.
            let packed =
                unsafe { std::slice::from_raw_parts_mut(to.at(index * whole), rows * block.vectors * lanes) };
            pack(geometry, direction, walk, order, kernel, group, block, block.vectors * lanes, packed);
        });
        Self { floats, whole, lanes }
    }

    /// The weights of a block.
    pub(crate) fn block(&self, block: Block) -> &[f32] {
        &self.floats[block.start / (2 * self.lanes) * self.whole..]
    }
}

/// Writes one block's weights, each row rounded up to `width` with zeros.
#[expect(clippy::too_many_arguments, reason = "all of them say which weights")]
pub(crate) fn pack(
    geometry: &Geometry,
    direction: Direction,
    walk: &Walk,
    order: Order,
    kernel: &[f32],
    group: usize,
    block: Block,
    width: usize,
    packed: &mut [f32],
) {
    let (read, _) = direction.channels(geometry);
    let taps =
        walk.rows.taps.iter().flat_map(|row| walk.columns.taps.iter().map(move |column| (row.1, column.1)));
    // So many taps take turns.
    let turns = if order == Order::Abreast { walk.columns.taps.len() } else { 1 };
    let step = turns * width;
    for (index, (row, column)) in taps.enumerate() {
        let rows = &mut packed[(index / turns * turns * read + index % turns) * width..];
        let tap = (row * geometry.kernel[1] + column) * geometry.group_from() * geometry.to;
        let group_start = group * geometry.group_to();
        match direction {
            Direction::Forward => {
                let first = tap + group_start + block.start;
                for (channel, row) in rows.chunks_mut(step).take(read).enumerate() {
                    let from = first + channel * geometry.to;
                    row[..block.channels].copy_from_slice(&kernel[from..from + block.channels]);
                    row[block.channels..width].fill(0.0);
                }
            }
            Direction::Backward => {
                let from = kernel[tap + block.start * geometry.to + group_start..].as_ptr();
                // SAFETY: so many rows of the kernel, `to` floats each, belong to the block; `read` rows of
                // `width`, `step` floats apart, are to be written.
                unsafe { transpose(from, geometry.to, rows.as_mut_ptr(), step, [block.channels, read]) };
                for row in rows.chunks_mut(step).take(read) {
                    row[block.channels..width].fill(0.0);
                }
            }
        }
    }
}
