use crate::Draw;
use crate::ops::OperationSpec;
use candle::Tensor;
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

    /// What each of a draw's two operations does to maps of a shape: nothing, where its bit is not set.
    pub(crate) fn changes(&self, shape: [usize; 4], draw: &Draw) -> [Change; 2] {
        let (pair, bits, levels) = (self.pairs[draw.pair], draw.bits[draw.pair], draw.levels[draw.pair]);
        [0, 1].map(|place| {
            if !bits[place] {
                return Change::Nothing;
            }
            let key = draw.key.fold_in(pair[place] as u64);
            self.operations[pair[place]].as_ref().change(shape, levels[place], key)
        })
    }

    /// For each operation 1 where a draw executes it, else 0.
    pub(crate) fn executed(&self, draw: &Draw) -> Vec<f32> {
        let (pair, bits) = (self.pairs[draw.pair], draw.bits[draw.pair]);
        let executed = |operation| (0..2).any(|place| bits[place] && pair[place] == operation);
        (0..self.operations.len()).map(|operation| f32::from(u8::from(executed(operation)))).collect()
    }

    /// Whether an operation adds numbers of its own for every number of a map.
    pub(crate) fn adds(&self) -> bool {
        self.samples().any(|change| matches!(change, Change::Add(_)))
    }

    /// Whether a GPU has kernels for all of them.
    pub(crate) fn can_be_laid(&self) -> bool {
        !self.samples().any(|change| matches!(change, Change::Other(_)))
    }

    /// What each operation does at its strongest, to the smallest map.
    fn samples(&self) -> impl Iterator<Item = Change> {
        self.operations.iter().map(|operation| operation.as_ref().change([1; 4], 1.0, Key::new(0)))
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
