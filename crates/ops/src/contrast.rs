//! What a loss asks a GPU that tells each image from thousands of others by what is remembered of all of them.

use crate::backend::gpu_for;
use crate::gpu::{Arg, Gpu, comings};
use crate::record::{Backward, record, tensor};
use crate::spent::named;
use candle::{DType, Device, Tensor};
use sokd_core::{Error, Key, Result};

/// Lanes of a block, which share a round of draws or picks (`kernels/contrast.cu`).
const LANES: usize = 256;
/// Rows that the blocks of a launch may note draws for.
const NOTES: usize = 1 << 26;
/// Numbers of a bank, and picks, that kernels count.
const NUMBERS: usize = 1 << 30;
/// Rounds of picks that a block goes through.
const ROUNDS: usize = 8;
/// Blocks that share the sum behind a normaliser.
const BLOCKS: usize = 512;

/// The classes of all training images by row: below 0 where nobody has seen an image.
///
/// Where a GPU has them, nothing of it comes to this side, and one that is told [again](crate::Replay) what it was told once draws by
/// the key that was laid down last. Where no GPU's kernels run, `None` is what it answers.
pub struct Roll {
    classes: Tensor,
    key: Tensor,
    fault: Tensor,
}

/// Why a [`Roll`] could not be gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// An example is in no row, or of another class than the image that is.
    Stranger,
    /// There is no image of another class.
    AllAlike,
}

impl Roll {
    /// # Shapes
    /// `classes`: `(images,)`, changed where they are.
    pub fn new(classes: &Tensor) -> Result<Self> {
        let words = |count: usize| Tensor::zeros(count, DType::U32, classes.device());
        Ok(Self { classes: classes.detach(), key: words(2)?, fault: words(1)? })
    }

    /// The key that was laid down last.
    pub fn key(&self) -> Result<Key> {
        let words = self.key.to_device(&Device::Cpu)?.to_vec1::<u32>()?;
        Ok(Key::from([words[0], words[1]]))
    }

    /// From now on, [others](Self::others) are drawn by this key.
    pub fn lay(&self, key: Key) -> Result<()> {
        Ok(self.key.slice_set(&Tensor::new(&key.words(), self.key.device())?, 0, 0)?)
    }

    /// What was wrong with examples until now. It waits for the GPU.
    pub fn unfit(&self) -> Result<Option<Unfit>> {
        Ok(match self.fault.to_device(&Device::Cpu)?.to_vec1::<u32>()?[..] {
            [0] => None,
            [1] => Some(Unfit::Stranger),
            _ => Some(Unfit::AllAlike),
        })
    }

    /// The rows of examples: of strangers the first, and a [fault](Self::unfit). Where it `teaches`, their classes are known from now on.
    ///
    /// # Shapes
    /// `rows`, `labels`: `(batch,)`, `u32`, and `(batch,)` again.
    pub fn recognise_(&self, rows: &Tensor, labels: &Tensor, teaches: bool) -> Result<Option<Tensor>> {
        let Some(gpu) = gpu_for(&[&self.classes]) else { return Ok(None) };
        let (count, images) = (rows.dim(0)?, self.classes.dim(0)?);
        let (rows, labels) = (rows.contiguous()?, labels.contiguous()?);
        let seen = rows.zeros_like()?;
        let mut args = vec![Arg::Change(Some(&self.classes)), Arg::from(&rows), Arg::from(&labels)];
        args.extend([&seen, &self.fault].map(|tensor| Arg::Change(Some(tensor))));
        args.extend([count, images, teaches.into()].map(Arg::Int));
        named("known rows", || gpu.launch("recognise", Gpu::blocks(count, LANES), args))?;
        Ok(Some(seen))
    }

    /// For each example a row that counts as its own, and `count` rows of other classes: drawn with repetition only where there are
    /// too few. Its own is its row or, where all of a class are `alike`, a row of its class; rows are drawn from the example's own
    /// stream, as [`Stream::below`](sokd_core::Stream::below) would.
    ///
    /// # Shapes
    /// `rows`, `labels`: `(batch,)`, `u32` → `(batch, 1 + count)`, `u32`.
    pub fn others(
        &self,
        rows: &Tensor,
        labels: &Tensor,
        count: usize,
        alike: bool,
    ) -> Result<Option<Tensor>> {
        let Some(gpu) = gpu_for(&[&self.classes]) else { return Ok(None) };
        let (batch, images) = (rows.dim(0)?, self.classes.dim(0)?);
        let (rows, labels) = (rows.contiguous()?, labels.contiguous()?);
        let words = |shape: (usize, usize)| Tensor::zeros(shape, DType::U32, rows.device());
        let blocks = (NOTES / images).clamp(1, batch.max(1));
        let (picks, earliest) = (words((batch, 1 + count))?, words((blocks, images))?);
        let args = [&self.classes, &rows, &labels, &self.key].map(Arg::from);
        let changed = [&picks, &earliest, &self.fault].map(|tensor| Arg::Change(Some(tensor)));
        let numbers = [batch, images, count, alike.into(), draws(images, count)].map(Arg::Int);
        let args = args.into_iter().chain(changed).chain(numbers).collect();
        named("rows of others", || gpu.launch("others", blocks, args))?;
        Ok(Some(picks))
    }
}

/// Draws of a lane in a round, a multiple of four: one round is mostly enough for `count` different rows of `images`.
fn draws(images: usize, count: usize) -> usize {
    let all = images as f64;
    let due = if count < images { all * (all / (images - count) as f64).ln() } else { count as f64 };
    ((1.03 * due / LANES as f64) as usize).clamp(1, 4096).next_multiple_of(4)
}

/// How surprising it is, in nats, that the first pick of each anchor is its own and the others are not, differentiable in the anchors;
/// and what chances were divided by. A row of the bank is read once for both a value and its slope, and nothing is made of the bank that
/// is as large. `None` where no GPU's kernels take these tensors.
///
/// # Shapes
/// `anchors`: `(batch, width)`; `bank`: `(rows, width)`; `picks`: `(batch, 1 + others)`, `u32` rows of the bank, the positive first;
/// `known`: `(1,)`, the normaliser, or a number that is not above 0 → `(batch,)` and `(1,)`.
///
/// # Source
/// `sokd-losses`, `crd::nce`, which has the formula.
pub fn contrast(
    anchors: &Tensor,
    bank: &Tensor,
    picks: &Tensor,
    temperature: f64,
    known: &Tensor,
) -> Result<Option<(Tensor, Tensor)>> {
    let ((batch, width), (rows, of_bank), (examples, picked)) =
        (anchors.dims2()?, bank.dims2()?, picks.dims2()?);
    if of_bank != width || examples != batch {
        let expected = format!("({batch}, ..), of rows of width {width}");
        return Err(Error::Shape { what: "picks of a bank", expected, got: vec![examples, picked, of_bank] });
    }
    let tensors = [&anchors.contiguous()?, &bank.contiguous()?, &known.contiguous()?, &picks.contiguous()?];
    let counted = [rows * width, batch * picked].into_iter().all(|count| count <= NUMBERS);
    let single = tensors[..3].iter().all(|tensor| tensor.dtype() == DType::F32);
    let fits = batch * width > 0 && counted && single;
    let Some(gpu) = gpu_for(&tensors[..3]).filter(|_| fits) else { return Ok(None) };
    let how = How { batch, width, rows, picked, temperature };
    Ok(Some(named("contrasts", || how.contrast(&gpu, tensors))?))
}

/// Values whose slopes were found with them.
struct Contrast {
    slopes: Tensor,
}

impl Backward<1> for Contrast {
    const NAME: &'static str = "contrast";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], false)
    }

    fn gradients(
        &self,
        _: [&Tensor; 1],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 1]> {
        Ok([Some(self.slopes.broadcast_mul(&gradient.detach().unsqueeze(1)?)?)])
    }
}

struct How {
    batch: usize,
    width: usize,
    rows: usize,
    picked: usize,
    temperature: f64,
}

impl How {
    fn contrast(
        &self,
        gpu: &Gpu,
        [anchors, bank, known, picks]: [&Tensor; 4],
    ) -> candle::Result<(Tensor, Tensor)> {
        let &Self { batch, width, rows, picked, .. } = self;
        let (all, parts, groups) = (batch * picked, picked.div_ceil(LANES * ROUNDS), (LANES / width).max(1));
        let blocks = all.div_ceil(LANES).clamp(1, BLOCKS);
        // What blocks leave for others, in one piece of memory.
        let sizes = [1, blocks, batch * parts, batch * parts * groups * width];
        let room = Tensor::zeros(sizes.iter().sum::<usize>(), DType::F64, anchors.device())?;
        let place = |at: usize| room.narrow(0, sizes[..at].iter().sum(), sizes[at]);
        let [normaliser, sums, surprises, slopes] = [place(0)?, place(1)?, place(2)?, place(3)?];
        let run = |kernel, blocks, reads: &[&Tensor], changed: &[&Tensor], sizes: &[usize]| {
            let mut args: Vec<Arg<'_>> = reads.iter().map(|&tensor| Arg::from(tensor)).collect();
            args.extend(changed.iter().map(|&tensor| Arg::Change(Some(tensor))));
            args.extend(self.temperature());
            args.extend(sizes.iter().map(|&size| Arg::Int(size)));
            gpu.launch(kernel, blocks, args)
        };
        let changed = [&sums, &comings(anchors.device(), 1)?, &normaliser];
        let sizes = [all, picked, width, rows];
        run("normaliser_of", blocks, &[anchors, bank, picks, known], &changed, &sizes)?;
        let changed = [&normaliser, &surprises, &slopes];
        let sizes = [picked, width, rows, parts, groups];
        run("contrast", batch * parts, &[anchors, bank, picks], &changed, &sizes)?;

        let (mut values, mut slope) = (gpu.room(batch)?, gpu.room(batch * width)?);
        let mut args: Vec<_> = [&surprises, &slopes].map(|tensor| Arg::Change(Some(tensor))).into();
        args.extend([Arg::Write(&mut values), Arg::Write(&mut slope)]);
        args.extend(self.temperature());
        args.extend([batch * width, width, parts, groups].map(Arg::Int));
        gpu.launch("contrast_ends", Gpu::blocks(batch * width, LANES), args)?;
        let back = Contrast { slopes: tensor(slope, (batch, width)) };
        Ok((record([anchors], values, batch, back)?, normaliser))
    }

    /// In two parts, of which single precision has each.
    fn temperature<'a>(&self) -> [Arg<'a>; 2] {
        let upper = f64::from(self.temperature as f32);
        [upper, self.temperature - upper].map(Arg::Float)
    }
}
