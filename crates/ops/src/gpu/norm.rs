use super::launch::{Arg, Gpu, LANES, over};
use crate::Norm;
use crate::record::{Backward, Numbers, record, tensor};
use candle::{DType, Device, DeviceLocation, Result, Storage, Tensor};
use sokd_core::{Lazy, Mode};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Channels that a block takes (`kernels/norm.cu`).
const TILE: usize = 64;
/// Rows that a lane adds before another slice is worth a block, and blocks that fill a GPU.
const ROWS: usize = 16;
const BLOCKS: usize = 528;

/// How the sums over the rows of a map are taken: in slices, which the last block of a tile adds up.
pub(super) struct Slices {
    rows: usize,
    channels: usize,
    count: usize,
    tiles: usize,
    done: Tensor,
}

impl Slices {
    /// In how many slices the sums over `rows` are taken, and how many blocks take one. A function of the shape alone, and so
    /// is the order of the sums.
    pub(super) fn of(rows: usize, channels: usize) -> (usize, usize) {
        let wide = channels.min(TILE);
        let tiles = channels.div_ceil(wide);
        ((rows / (LANES / wide * ROWS)).clamp(1, (BLOCKS / tiles).max(1)), tiles)
    }

    fn over(map: &Tensor, channels: usize) -> Result<Self> {
        let rows = map.elem_count() / channels;
        let (count, tiles) = Self::of(rows, channels);
        Ok(Self { rows, channels, count, tiles, done: comings(map.device(), tiles)? })
    }

    /// Numbers of the sums by slices, and of those of products.
    fn sums(&self) -> usize {
        self.count * self.channels
    }

    /// Where both go, and who counts their blocks.
    fn places<'a>(&'a self, sums: &'a Tensor, products: &'a Tensor) -> [Arg<'a>; 3] {
        [sums, products, &self.done].map(|tensor| Arg::Change(Some(tensor)))
    }

    fn sizes<'a>(&self) -> [Arg<'a>; 3] {
        [self.rows, self.channels, self.count].map(Arg::Int)
    }

    fn blocks(&self) -> usize {
        self.count * self.tiles
    }
}

/// For each tile of channels how many of its blocks have come to their end: 0 between launches, which come one after the other.
pub(crate) fn comings(device: &Device, tiles: usize) -> Result<Tensor> {
    static KNOWN: LazyLock<Mutex<HashMap<(DeviceLocation, usize), Tensor>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (device.location(), tiles.next_power_of_two());
    if let Some(done) = known.get(&key) {
        return Ok(done.clone());
    }
    let done = Tensor::zeros(key.1, DType::U32, device)?;
    known.insert(key, done.clone());
    Ok(done)
}

/// The sums over all but the last axis.
pub(crate) fn column_sums(gpu: &Gpu, x: &Tensor, channels: usize) -> Result<Storage> {
    let slices = Slices::over(x, channels)?;
    let [sums, products] = gpu.rooms([slices.sums(); 2])?;
    let mut totals = gpu.room(channels)?;
    let args = [Arg::from(x)].into_iter().chain(slices.places(&sums, &products));
    let args = args.chain([Arg::Write(&mut totals)]).chain(slices.sizes());
    gpu.launch(over(x, "column_sums"), slices.blocks(), args.collect())?;
    Ok(totals)
}

/// The sums over slices that lie one behind the other.
pub(super) fn add_slices(gpu: &Gpu, sums: &Tensor, channels: usize, slices: usize) -> Result<Storage> {
    let mut totals = gpu.room(channels)?;
    let sizes = [Arg::Int(channels), Arg::Int(slices)];
    let args = [Arg::from(sums), Arg::Write(&mut totals)].into_iter().chain(sizes).collect();
    gpu.launch("add_slices", Gpu::warps(channels), args)?;
    Ok(totals)
}

/// `relu?(x · scale? + shift + residual?)`, channel by channel.
pub(crate) fn scale_shift(
    gpu: &Gpu,
    x: &Tensor,
    scale: Option<&Tensor>,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Storage> {
    let (count, channels) = (x.elem_count(), shift.elem_count());
    let mut y = gpu.room_of(x.dtype(), count)?;
    let reads = [Some(x), scale, Some(shift), residual].map(Arg::Read).into_iter();
    let sizes = [Arg::Int(count), Arg::Int(channels), Arg::Int(relu.into())];
    let args = reads.chain([Arg::Write(&mut y)]).chain(sizes).collect();
    gpu.launch(over(x, "scale_shift"), blocks_of_fours(count, channels), args)?;
    Ok(y)
}

/// Blocks of kernels whose lanes take four channels, where they are as many times four.
fn blocks_of_fours(count: usize, channels: usize) -> usize {
    Gpu::blocks(if channels.is_multiple_of(4) { count / 4 } else { count }, LANES)
}

pub(crate) fn batch_norm(
    gpu: &Gpu,
    x: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    let (weight, bias) = (&norm.weight.contiguous()?, &norm.bias.contiguous()?);
    let tracked = [x, weight, bias].iter().any(|tensor| tensor.track_op());
    if mode == Mode::Eval && !tracked && !residual.is_some_and(Tensor::track_op) {
        return Ok(tensor(at_rest(gpu, x, norm, residual, relu)?, x.shape()));
    }
    let (y, back) = normalised(gpu, (x, tracked), norm, residual, relu, mode)?;
    entered([x, weight, bias], residual, y, back)
}

/// `relu(norm(x) + residual?)` of something tracked, and what it was before the ReLU, which is made for who asks alone.
pub(crate) fn norm_relu(
    gpu: &Gpu,
    x: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    mode: Mode,
) -> Result<(Tensor, Lazy)> {
    let arguments = [x.clone(), norm.weight.contiguous()?, norm.bias.contiguous()?];
    let (y, back) = normalised(gpu, (x, true), norm, residual, true, mode)?;
    let (residual, before) = (residual.cloned(), Normalise { gate: Gate::None, ..back.clone() });
    let y = entered(arguments.each_ref(), residual.as_ref(), y, back)?;
    let before = move || {
        let (arguments, residual, [scale, shift]) = (arguments.each_ref(), residual.as_ref(), &before.affine);
        let Some(gpu) = Gpu::of(&arguments) else {
            candle::bail!("a batch norm of a GPU is asked elsewhere")
        };
        let y = scale_shift(&gpu, arguments[0], Some(scale), shift, residual, false)?;
        entered(arguments, residual, y, before.clone())
    };
    Ok((y, Lazy::new(move || Ok(before()?))))
}

fn entered(
    [x, weight, bias]: [&Tensor; 3],
    residual: Option<&Tensor>,
    y: Storage,
    back: Normalise,
) -> Result<Tensor> {
    match residual {
        None => record([x, weight, bias], y, x.shape(), back),
        Some(residual) => record([x, weight, bias, residual], y, x.shape(), back),
    }
}

/// The result by the running statistics, from which nobody goes back: a network at rest asks for no more.
pub(super) fn at_rest(
    gpu: &Gpu,
    x: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Storage> {
    let (count, channels) = (x.elem_count(), norm.weight.elem_count());
    let mut y = gpu.room_of(x.dtype(), count)?;
    let held = [norm.mean, norm.var, norm.weight, norm.bias].map(Tensor::contiguous);
    let [mean, var, weight, bias] = held;
    let (mean, var, weight, bias) = (mean?, var?, weight?, bias?);
    let reads = [Some(x), Some(&mean), Some(&var), Some(&weight), Some(&bias), residual].map(Arg::Read);
    let sizes = [Arg::Int(count), Arg::Int(channels), Arg::Float(norm.eps), Arg::Int(relu.into())];
    let args = reads.into_iter().chain([Arg::Write(&mut y)]).chain(sizes).collect();
    gpu.launch(over(x, "norm_at_rest"), blocks_of_fours(count, channels), args)?;
    Ok(y)
}

/// The result, and the way back from it, which someone may go where `tracked` says so.
pub(super) fn normalised(
    gpu: &Gpu,
    (x, tracked): (&Tensor, bool),
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<(Storage, Normalise)> {
    let channels = norm.weight.elem_count();
    let (weight, bias) = (&norm.weight.contiguous()?, &norm.bias.contiguous()?);
    let slices = Slices::over(x, channels)?;
    let by_slices = if mode == Mode::Eval { 0 } else { slices.sums() };
    let counts = [channels, channels, channels, channels, by_slices, by_slices];
    let [mean, inverse, scale, shift, sums, products] = gpu.rooms(counts)?;
    let (affine, eps) = ([Arg::from(weight), Arg::from(bias)], Arg::Float(norm.eps));
    let made = [&inverse, &scale, &shift].map(|made| Arg::Change(Some(made)));
    let mean = if mode == Mode::Eval {
        let (mean, var) = (norm.mean.contiguous()?, norm.var.contiguous()?);
        let args = [Arg::from(&mean), Arg::from(&var)].into_iter().chain(affine).chain(made);
        gpu.launch(
            "running_statistics",
            Gpu::warps(channels),
            args.chain([Arg::Int(channels), eps]).collect(),
        )?;
        // What is remembered for the way back must not be taught meanwhile.
        if tracked { mean.copy()? } else { mean }
    } else {
        let pivot = norm.mean.contiguous()?;
        let running =
            [norm.mean, norm.var].map(|taught| Arg::Change((mode == Mode::Train).then_some(taught)));
        let args = [x, &pivot].map(Arg::from).into_iter().chain(slices.places(&sums, &products));
        let args = args.chain(affine).chain(running).chain([Arg::Change(Some(&mean))]).chain(made);
        let args = args.chain(slices.sizes()).chain([eps, Arg::Float(norm.momentum)]).collect();
        gpu.launch(over(x, "batch_statistics"), slices.blocks(), args)?;
        mean
    };
    let y = scale_shift(gpu, x, Some(&scale), &shift, residual, relu)?;
    let gate = match (relu, residual) {
        (false, _) => Gate::None,
        (true, None) => Gate::Own,
        (true, Some(_)) => Gate::Result,
    };
    Ok((y, Normalise { mean, inverse, affine: [scale, shift], learned: mode != Mode::Eval, gate }))
}

/// The way back.
#[derive(Clone)]
pub(super) struct Normalise {
    mean: Tensor,
    /// One over the deviation.
    inverse: Tensor,
    /// What the map was multiplied by, and what was added then.
    affine: [Tensor; 2],
    /// Whether both are the batch's, and not the running ones.
    learned: bool,
    gate: Gate,
}

/// What a ReLU lets pass on the way back.
#[derive(Clone, Copy)]
enum Gate {
    /// All: there is none.
    None,
    /// Where the result is positive.
    Result,
    /// Where the norm's own result is, which scale and shift make of `x` once more: a map less is read.
    Own,
}

impl Normalise {
    /// Whether the way back reads the result.
    pub(super) fn reads_result(&self) -> bool {
        matches!(self.gate, Gate::Result)
    }

    /// The gradients of `x`, of the weight and of the bias; and what passes to a residual, where one asks for it.
    pub(super) fn back(
        &self,
        x: &Tensor,
        weight: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
        passed: bool,
    ) -> Result<([Tensor; 3], Option<Tensor>)> {
        let Some(gpu) = Gpu::of(&[x]) else { candle::bail!("a batch norm of a GPU goes back elsewhere") };
        let channels = weight.elem_count();
        let gate = self.reads_result().then_some(y);
        let own = self.affine.each_ref().map(|one| matches!(self.gate, Gate::Own).then_some(one));
        let slices = Slices::over(x, channels)?;
        let [sums, products] = [slices.sums(); 2];
        let counts = [channels, channels, channels, channels, channels, sums, products];
        let [of_weight, of_bias, slope, lean, offset, sums, products] = gpu.rooms(counts)?;
        let maps = [Some(gradient), gate, Some(x), Some(&self.mean), own[0], own[1]];
        let args = maps.map(Arg::Read).into_iter().chain(slices.places(&sums, &products));
        let made = [&of_weight, &of_bias, &slope, &lean, &offset].map(|made| Arg::Change(Some(made)));
        let args = args.chain([weight, &self.inverse].map(Arg::from)).chain(made).chain(slices.sizes());
        let args = args.chain([Arg::Int(self.learned.into())]).collect();
        gpu.launch(over(x, "norm_gradients"), slices.blocks(), args)?;

        let room = || gpu.room_of(x.dtype(), x.elem_count());
        // Where nothing is gated, what passes is the gradient itself.
        let is_gated = !matches!(self.gate, Gate::None);
        let mut kept = (passed && is_gated).then(room).transpose()?;
        let mut of_x = room()?;
        let reads = maps.into_iter().chain([&slope, &lean, &offset].map(Some)).map(Arg::Read);
        let keep = kept.as_mut().map_or(Arg::Read(None), Arg::Write);
        let sizes = [Arg::Int(x.elem_count()), Arg::Int(channels)];
        let args = reads.chain([Arg::Write(&mut of_x), keep]).chain(sizes);
        gpu.launch(over(x, "norm_back"), blocks_of_fours(x.elem_count(), channels), args.collect())?;

        let passed =
            passed.then(|| kept.map_or_else(|| gradient.clone(), |kept| tensor(kept.storage(), x.shape())));
        Ok(([tensor(of_x, x.shape()), of_weight, of_bias], passed))
    }
}

impl Backward<3> for Normalise {
    const NAME: &'static str = "batch-norm";

    fn reads(&self) -> ([bool; 3], bool) {
        ([true, true, false], self.reads_result())
    }

    fn gradients(
        &self,
        [x, weight, _]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        Ok(self.back(x, weight, y, gradient, false)?.0.map(Some))
    }
}

impl Backward<4> for Normalise {
    const NAME: &'static str = "batch-norm";

    fn reads(&self) -> ([bool; 4], bool) {
        ([true, true, false, false], self.reads_result())
    }

    fn gradients(
        &self,
        [x, weight, _, residual]: [&Tensor; 4],
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 4]> {
        let ([of_x, of_weight, of_bias], passed) = self.back(x, weight, y, gradient, residual.track_op())?;
        Ok([Some(of_x), Some(of_weight), Some(of_bias), passed])
    }
}
