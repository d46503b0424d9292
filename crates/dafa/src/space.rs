use crate::Draw;
use crate::ops::OperationSpec;
use candle::{Device, Tensor};
use sokd_core::{Error, Key, Result};
use sokd_ops::Change;

/// What a policy chooses from: all ordered pairs of different operations of a list, the sub-policies.
///
/// # Source
/// DADA (Li et al., 2020, arXiv:2003.03780), section 3.1, on the feature operations of SoKD's development code. That
/// code leaves one of the 36 pairs out, by an unseeded draw; here all are there.
#[derive(Clone, Debug)]
pub struct Space {
    operations: Vec<OperationSpec>,
    pairs: Vec<[usize; 2]>,
}

impl Space {
    /// The pairs of a list of operations, in its order.
    ///
    /// # Errors
    /// [`Error::Setting`] when there are fewer than two.
    pub fn new(operations: Vec<OperationSpec>) -> Result<Self> {
        let count = operations.len();
        if count < 2 {
            return Err(Error::setting(
                "dafa.operations",
                format!("a sub-policy is a pair of operations, and {count} make none: list at least two"),
            ));
        }
        let pairs = (0..count).flat_map(|first| (first + 1..count).map(move |second| [first, second]));
        Ok(Self { operations, pairs: pairs.collect() })
    }

    /// The sub-policies, as places in the list of operations.
    pub fn pairs(&self) -> &[[usize; 2]] {
        &self.pairs
    }

    /// What logs call the operations: their names, numbered where one is listed again.
    pub fn names(&self) -> Vec<String> {
        let name = |(at, operation): (usize, &OperationSpec)| {
            let name = operation.name();
            match self.operations[..at].iter().filter(|before| before.name() == name).count() {
                0 => name,
                before => format!("{name}-{}", before + 1),
            }
        };
        self.operations.iter().enumerate().map(name).collect()
    }

    /// What each operation of a draw's sub-policy does to maps of a shape: nothing, where its bit is not set.
    pub(crate) fn changes(&self, shape: [usize; 4], draw: &Draw) -> [Change; 2] {
        self.changes_of(shape, draw, draw.pair, draw.bits[draw.pair])
    }

    /// What each operation of a sub-policy would do by a draw, with other bits.
    fn changes_of(&self, shape: [usize; 4], draw: &Draw, pair: usize, bits: [bool; 2]) -> [Change; 2] {
        [0, 1].map(|place| {
            if !bits[place] {
                return Change::Nothing;
            }
            let (operation, level) = (self.pairs[pair][place], draw.levels[pair][place]);
            self.operations[operation].as_ref().change(shape, level, draw.key.fold_in(operation as u64))
        })
    }

    /// Whatever a gradient is asked about by a draw: what every sub-policy would do; then the drawn one with each of its bits set
    /// and unset, the other as drawn.
    pub(crate) fn questions(&self, shape: [usize; 4], draw: &Draw) -> Vec<[Change; 2]> {
        let all = (0..self.pairs.len()).map(|pair| (pair, draw.bits[pair]));
        let [first, second] = draw.bits[draw.pair];
        let beside = [[true, second], [false, second], [first, true], [first, false]];
        let asked = all.chain(beside.map(|bits| (draw.pair, bits)));
        asked.map(|(pair, bits)| self.changes_of(shape, draw, pair, bits)).collect()
    }

    /// For each operation whether a draw executes it.
    pub(crate) fn executed(&self, draw: &Draw) -> impl Iterator<Item = bool> {
        let (pair, bits) = (self.pairs[draw.pair], draw.bits[draw.pair]);
        (0..self.operations.len()).map(move |operation| (0..2).any(|at| bits[at] && pair[at] == operation))
    }

    /// Where operations stand in pairs: `(operations, 2 · pairs)`, 1 or 0.
    pub(crate) fn places(&self, device: &Device) -> Result<Tensor> {
        let (operations, places) = (self.operations.len(), self.pairs.as_flattened());
        let stands = |operation| places.iter().map(move |&place| f32::from(u8::from(place == operation)));
        let all: Vec<f32> = (0..operations).flat_map(stands).collect();
        Ok(Tensor::from_vec(all, (operations, places.len()), device)?)
    }

    /// Whether a GPU has kernels for all of them.
    pub(crate) fn can_be_laid(&self) -> bool {
        let mut samples = self.operations.iter().map(|one| one.as_ref().change([1; 4], 1.0, Key::new(0)));
        !samples.any(|change| matches!(change, Change::Other(_)))
    }

    /// s(F): those of a pair's operations whose bit is set, one after the other.
    ///
    /// What an operation draws hangs on its place in the list and not on the pair, so that pairs differ by what they
    /// do and not by luck.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`, and the same again.
    ///
    /// # Source
    /// SoKD (arXiv:2409.18785) after DADA: equation (E2) of the book's page on DAFA.
    pub fn apply(
        &self,
        map: &Tensor,
        pair: usize,
        bits: [bool; 2],
        levels: [f64; 2],
        key: Key,
    ) -> Result<Tensor> {
        let mut map = map.clone();
        for place in 0..2 {
            if bits[place] {
                let operation = self.pairs[pair][place];
                let key = key.fold_in(operation as u64);
                map = self.operations[operation].as_ref().apply(&map, levels[place], key)?;
            }
        }
        Ok(map)
    }
}
