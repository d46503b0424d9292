use super::work::{Addresses, Firsts, Floats, MANY, Window};
use crate::Moved;
#[cfg(feature = "mirror")]
use crate::backend::{Backend, backend};
use crate::record::tensor;
use crate::spent::{is_listened_to, spend};
#[cfg(feature = "cuda")]
use candle::CudaDevice;
use candle::{DType, Result, Storage, Tensor};
use std::borrow::Cow;

/// Lanes of a block.
pub(super) const LANES: usize = 256;
/// Lanes that walk together: those that take a row.
const WARP: usize = 32;
/// Blocks at most, of kernels whose lanes go round: some for each processor of the largest GPU.
const BLOCKS: usize = 4096;
/// Numbers of a tensor: lanes count them, and their step, in 32 bits.
const NUMBERS: usize = 1 << 30;

/// Whose kernels run. A build that has none has no such value.
pub(crate) enum Gpu {
    #[cfg(feature = "cuda")]
    Nvidia(CudaDevice),
    /// This machine, which does as if.
    #[cfg(feature = "mirror")]
    Mirror,
}

/// A kernel: by its name alone, or by that and the type of the maps that it is over.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    name: &'static str,
    map: Option<DType>,
    /// How many numbers a lane takes at once, where they lie as they must for that.
    apiece: usize,
}

/// That of the kernels `name` which is over maps as this one (`text.rs`).
pub(crate) fn over(map: &Tensor, name: &'static str) -> Kernel {
    Kernel::over(map.dtype(), name)
}

impl From<&'static str> for Kernel {
    fn from(name: &'static str) -> Self {
        Self { name, map: None, apiece: 1 }
    }
}

impl Kernel {
    pub(super) fn over(map: DType, name: &'static str) -> Self {
        Self { name, map: Some(map), apiece: 1 }
    }

    /// One whose lanes take four numbers at once.
    pub(crate) fn by_fours(self) -> Self {
        Self { apiece: 4, ..self }
    }

    pub(super) fn name(self) -> Cow<'static, str> {
        let Self { name, map, .. } = self;
        match map {
            None => name.into(),
            Some(DType::BF16) => format!("{name}_bf16").into(),
            Some(_) => format!("{name}_float").into(),
        }
    }

    /// Blocks whose lanes make so many numbers.
    fn blocks(self, count: usize) -> usize {
        Gpu::blocks(count.div_ceil(self.apiece), LANES)
    }

    /// The type of what it makes, where it makes a map or none is over maps.
    fn makes(self) -> DType {
        self.map.unwrap_or(DType::F32)
    }
}

/// What a kernel is given, in the order of its parameters.
#[cfg_attr(not(any(feature = "cuda", feature = "mirror")), expect(dead_code, reason = "nothing is launched"))]
pub(crate) enum Arg<'a> {
    /// Numbers to read; none, where the kernel can do without.
    Read(Option<&'a Tensor>),
    /// Numbers to write, all of them.
    Write(&'a mut Storage),
    /// Numbers to change, whoever else holds them.
    Change(Option<&'a Tensor>),
    /// Tensors to change, at most [`MANY`].
    ChangeAll(Vec<&'a Tensor>),
    Int(usize),
    Float(f64),
    Window(Window),
    Firsts(Box<Firsts>),
    Floats(Box<Floats>),
}

impl<'a> From<&'a Tensor> for Arg<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Read(Some(tensor))
    }
}

impl<'a> From<&'a mut Storage> for Arg<'a> {
    fn from(storage: &'a mut Storage) -> Self {
        Self::Write(storage)
    }
}

/// A parameter as the machine takes it.
#[derive(Clone, Debug)]
#[cfg_attr(not(any(feature = "cuda", feature = "mirror")), expect(dead_code, reason = "no machine takes it"))]
pub(super) enum Word {
    Address(u64),
    Addresses(Box<Addresses>),
    Int(i32),
    Float(f32),
    Window(Window),
    Firsts(Box<Firsts>),
    Floats(Box<Floats>),
}

#[cfg_attr(
    not(any(feature = "cuda", feature = "mirror")),
    expect(unused_variables, clippy::needless_pass_by_value, reason = "there is no value to call these on")
)]
impl Gpu {
    /// The one that has these tensors.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "none has"))]
    pub(crate) fn of(tensors: &[&Tensor]) -> Option<Self> {
        #[cfg(feature = "mirror")]
        if Self::mirrors() {
            return Some(Self::Mirror);
        }
        #[cfg(feature = "cuda")]
        if let Some(candle::Device::Cuda(device)) = tensors.first().map(|tensor| tensor.device()) {
            return Some(Self::Nvidia(device.clone()));
        }
        None
    }

    /// Whether this machine does as if it were one.
    pub(crate) fn mirrors() -> bool {
        #[cfg(feature = "mirror")]
        return backend() == Backend::Mirror;
        #[cfg(not(feature = "mirror"))]
        false
    }

    /// Room for numbers of single precision that a kernel will write.
    pub(crate) fn room(&self, count: usize) -> Result<Storage> {
        self.room_of(DType::F32, count)
    }

    /// Room for those of a map, of either type.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps, reason = "a GPU may have none"))]
    pub(crate) fn room_of(&self, map: DType, count: usize) -> Result<Storage> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => super::nvidia::room(device, map, count),
            #[cfg(feature = "mirror")]
            Self::Mirror => Ok(super::mirror::room(map, count)),
        }
    }

    /// Room for so many numbers each, for kernels to [change](Arg::Change): one piece of memory, since small ones cost as much to take
    /// as large ones. Each begins where four numbers are taken at once.
    pub(crate) fn rooms<const N: usize>(&self, counts: [usize; N]) -> Result<[Tensor; N]> {
        let whole = |count: usize| count.next_multiple_of(4);
        let all: usize = counts.into_iter().map(whole).sum();
        let room = tensor(self.room(all)?, all);
        let mut first = 0;
        let mut rooms = Vec::with_capacity(N);
        for count in counts {
            rooms.push(room.narrow(0, first, count)?);
            first += whole(count);
        }
        Ok(rooms.try_into().unwrap_or_else(|_| unreachable!("as many as there are counts")))
    }

    /// Runs a kernel that makes `count` numbers, each on its own: `kernel(reads .., y, count, rest ..)`.
    pub(crate) fn each<const N: usize, const M: usize>(
        &self,
        kernel: impl Into<Kernel>,
        reads: [&Tensor; N],
        count: usize,
        rest: [Arg<'_>; M],
    ) -> Result<Storage> {
        self.each_of(kernel, reads.map(Some), count, rest)
    }

    /// The same, where some of what is read may be missing.
    pub(crate) fn each_of<const N: usize, const M: usize>(
        &self,
        kernel: impl Into<Kernel>,
        reads: [Option<&Tensor>; N],
        count: usize,
        rest: [Arg<'_>; M],
    ) -> Result<Storage> {
        let kernel = kernel.into();
        let mut y = self.room_of(kernel.makes(), count)?;
        let mut args: Vec<Arg<'_>> = reads.into_iter().map(Arg::Read).collect();
        args.extend([Arg::Write(&mut y), Arg::Int(count)]);
        args.extend(rest);
        self.launch(kernel, kernel.blocks(count), args)?;
        Ok(y)
    }

    /// The same, where a lane of `count` writes more than one number of `room`, or numbers of another type.
    pub(crate) fn walk<const N: usize, const M: usize>(
        &self,
        kernel: impl Into<Kernel>,
        reads: [&Tensor; N],
        room: &mut Storage,
        count: usize,
        rest: [Arg<'_>; M],
    ) -> Result<()> {
        let mut args: Vec<Arg<'_>> = reads.into_iter().map(Arg::from).collect();
        args.extend([Arg::Write(room), Arg::Int(count)]);
        args.extend(rest);
        let kernel = kernel.into();
        self.launch(kernel, kernel.blocks(count), args)
    }

    /// Runs a kernel whose lanes look through a window, channel by channel: `kernel(reads .., y, window, count, channels)`.
    pub(crate) fn windows<const N: usize>(
        &self,
        kernel: Kernel,
        reads: [&Tensor; N],
        window: Window,
        count: usize,
        channels: usize,
    ) -> Result<Storage> {
        // Lanes count what they look at, too.
        reads.iter().try_for_each(|tensor| int(tensor.elem_count()).map(drop))?;
        let mut y = self.room_of(kernel.makes(), count)?;
        let mut args: Vec<Arg<'_>> = reads.into_iter().map(Arg::from).collect();
        args.extend([Arg::Write(&mut y), Arg::Window(window), Arg::Int(count), Arg::Int(channels)]);
        self.launch(kernel, kernel.blocks(count), args)?;
        Ok(y)
    }

    /// The largest under each window, channel by channel; and, for someone who goes back, at which place of the window it was first.
    pub(crate) fn max_pool(
        &self,
        x: &Tensor,
        window: Window,
        (count, channels): (usize, usize),
        goes_back: bool,
    ) -> Result<(Storage, Option<Storage>)> {
        int(x.elem_count())?;
        let mut y = self.room_of(x.dtype(), count)?;
        let mut winners = goes_back.then(|| self.room(count)).transpose()?;
        let kernel = over(x, "max_pool").by_fours();
        let places = winners.as_mut().map_or(Arg::Read(None), Arg::Write);
        let args = vec![Arg::from(x), Arg::Write(&mut y), places, Arg::Window(window)];
        let sizes = [Arg::Int(count), Arg::Int(channels)];
        self.launch(kernel, kernel.blocks(count), args.into_iter().chain(sizes).collect())?;
        Ok((y, winners))
    }

    /// Runs a kernel that changes tensors where they are, many in a launch:
    /// `kernel(weights, memories .., movers, firsts, count, rest ..)`.
    pub(crate) fn change<'a, const N: usize>(
        &self,
        kernel: &'static str,
        moved: &[Moved<'a, N>],
        rest: impl Fn() -> Vec<Arg<'a>>,
    ) -> Result<()> {
        for moved in moved.chunks(MANY) {
            let (firsts, count) = Firsts::of(moved.iter().map(|moved| moved.by))?;
            let mut args = vec![Arg::ChangeAll(moved.iter().map(|moved| moved.weight).collect())];
            args.extend(
                (0..N).map(|at| Arg::ChangeAll(moved.iter().map(|moved| moved.memory[at]).collect())),
            );
            args.push(Arg::ChangeAll(moved.iter().map(|moved| moved.by).collect()));
            args.extend([Arg::Firsts(Box::new(firsts)), Arg::Int(count)]);
            args.extend(rest());
            self.launch(kernel, Self::blocks(count, LANES), args)?;
        }
        Ok(())
    }

    /// Runs a kernel whose rows have a warp each: `kernel(reads .., y, width, rows, rest ..)`.
    pub(crate) fn rows<const N: usize, const M: usize>(
        &self,
        kernel: &'static str,
        reads: [Option<&Tensor>; N],
        (count, width, rows): (usize, usize, usize),
        rest: [Arg<'_>; M],
    ) -> Result<Storage> {
        let mut y = self.room(count)?;
        let mut args: Vec<Arg<'_>> = reads.into_iter().map(Arg::Read).collect();
        args.extend([Arg::Write(&mut y), Arg::Int(width), Arg::Int(rows)]);
        args.extend(rest);
        self.launch(kernel, Self::warps(rows), args)?;
        Ok(y)
    }

    /// Blocks of kernels that take a warp for each of `rows`.
    pub(crate) fn warps(rows: usize) -> usize {
        Self::blocks(rows, LANES / WARP)
    }

    pub(crate) fn blocks(count: usize, a_block: usize) -> usize {
        count.div_ceil(a_block).clamp(1, BLOCKS)
    }

    /// Puts rows in the place of others.
    pub(crate) fn put_rows(&self, place: &Tensor, rows: &Tensor, values: &Tensor) -> Result<()> {
        let (count, all) = (values.elem_count(), place.dim(0)?);
        let width = count / rows.dim(0)?.max(1);
        let mut args = vec![Arg::Change(Some(place)), Arg::from(rows), Arg::from(values)];
        args.extend([count, width, all].map(Arg::Int));
        self.launch("put_rows", Self::blocks(count, LANES), args)
    }

    /// Runs a kernel on so many blocks.
    pub(crate) fn launch(&self, kernel: impl Into<Kernel>, blocks: usize, args: Vec<Arg<'_>>) -> Result<()> {
        let kernel = kernel.into();
        self.timed(
            || (format!("kernel {}", kernel.name()), 0),
            || match *self {
                #[cfg(feature = "cuda")]
                Self::Nvidia(ref device) => super::nvidia::launch(device, &kernel.name(), blocks, args),
                #[cfg(feature = "mirror")]
                Self::Mirror => super::mirror::launch(&kernel.name(), blocks, args),
            },
        )
    }

    /// Asks for some work; where someone [listens](crate::spent), by itself and until it is done, since a GPU runs on while this side
    /// looks at the clock.
    pub(super) fn timed<R>(
        &self,
        what: impl FnOnce() -> (String, usize),
        work: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        if !is_listened_to() {
            return work();
        }
        self.wait()?;
        spend(what, || {
            let done = work()?;
            self.wait()?;
            Ok(done)
        })
    }

    #[cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps, reason = "a GPU may have failed"))]
    fn wait(&self) -> Result<()> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => candle::Device::Cuda(device.clone()).synchronize(),
            #[cfg(feature = "mirror")]
            Self::Mirror => Ok(()),
        }
    }
}

/// A number as kernels count.
pub(super) fn int(number: usize) -> Result<i32> {
    match i32::try_from(number) {
        Ok(int) if number <= NUMBERS => Ok(int),
        _ => candle::bail!("{number} numbers are more than a kernel counts: a smaller batch has fewer"),
    }
}
