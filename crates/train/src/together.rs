//! What processes that train one network tell each other, so that all of them hold the same weights after every step.

use crate::{Checkpoint, Progress, Training};
use candle::{DType, Device, Tensor, Var, backprop::GradStore};
use sokd_core::{Error, Result, Terms};
use sokd_world::World;

/// Layers' own statistics of what they have seen, whose mean says what all have seen.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

/// Puts the mean over all processes in place of gradients, each counting for its images; a weight that no process has a
/// gradient for gets none. How many images those are in all, and their terms.
pub(crate) fn mean<'a>(
    world: &World,
    images: usize,
    (terms, grads): (Terms, &mut GradStore),
    vars: impl Iterator<Item = &'a Var> + Clone,
) -> Result<(usize, Terms)> {
    if world.is_alone() {
        return Ok((images, terms));
    }
    let mut parcel = Parcel::default();
    for var in vars.clone() {
        parcel.add(grads.get(var), var.elem_count())?;
    }
    for term in &terms {
        parcel.add(Some(&term.mean()?.detach()), 1)?;
    }
    let images = parcel.send(world, images)?;
    for var in vars {
        match parcel.take(var)? {
            Some(mean) => grads.insert(var, mean),
            None => grads.remove(var),
        };
    }
    let mut means = Terms::default();
    for term in &terms {
        let value = parcel.take(&term.mean()?)?.expect("every process has its terms");
        means = means.with(&term.name, term.weight, value);
    }
    Ok((images, means))
}

/// What each process makes of its batch of a round, `(batch, classes)` by rank, where there is a batch for it; nothing
/// where one of them has to leave.
pub(crate) fn seen(
    world: &World,
    leave: bool,
    own: Option<Tensor>,
    classes: usize,
) -> Result<Option<Vec<Tensor>>> {
    if world.is_alone() {
        return Ok(if leave { None } else { Some(own.into_iter().collect()) });
    }
    let mut said = vec![u8::from(leave)];
    if let Some(logits) = own {
        let logits = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        said.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
    }
    let mut all = Vec::with_capacity(world.size());
    for said in world.gather(&said)? {
        let Some((0, logits)) = said.split_first() else { return Ok(None) };
        let (logits, _) = logits.as_chunks();
        let logits: Vec<f32> = logits.iter().map(|logit| f32::from_le_bytes(*logit)).collect();
        all.push(Tensor::from_vec(logits, ((), classes), &Device::Cpu)?);
    }
    Ok(Some(all))
}

/// Tensors on their way to their means.
#[derive(Default)]
struct Parcel {
    /// Each, flat, where this process has it, and how many numbers it has.
    own: Vec<(Option<Tensor>, usize)>,
    /// Whether any process has it.
    there: Vec<bool>,
    /// The means, one behind the other.
    means: Option<Tensor>,
    /// Tensors and numbers that were taken out again.
    taken: (usize, usize),
}

impl Parcel {
    fn add(&mut self, tensor: Option<&Tensor>, count: usize) -> Result<()> {
        let flat = |tensor: &Tensor| tensor.detach().flatten_all()?.to_dtype(DType::F32);
        self.own.push((tensor.map(flat).transpose()?, count));
        Ok(())
    }

    /// All of them, one behind the other; zeros for those that are not here.
    fn flat(&self) -> Result<Tensor> {
        let first = self.own.iter().find_map(|(tensor, _)| tensor.as_ref());
        let device = first.map_or(&Device::Cpu, Tensor::device);
        let parts = self.own.iter().map(|(tensor, count)| match tensor {
            Some(tensor) => tensor.to_device(device),
            None => Tensor::zeros(*count, DType::F32, device),
        });
        Ok(Tensor::cat(&parts.collect::<candle::Result<Vec<_>>>()?, 0)?)
    }

    /// Over the devices' own way where they have one, else over the hosts.
    fn send(&mut self, world: &World, images: usize) -> Result<usize> {
        let (flat, there) = (self.flat()?, self.own.iter().map(|(tensor, _)| u8::from(tensor.is_some())));
        let Some(fabric) = world.fabric() else {
            let mut numbers: Vec<f32> = there.map(f32::from).collect();
            numbers.extend(flat.to_vec1::<f32>()?);
            let images = world.mean(&mut numbers, images as f64)?;
            let (there, means) = numbers.split_at(self.own.len());
            self.there = there.iter().map(|there| *there != 0.0).collect();
            self.means = Some(Tensor::from_slice(means, means.len(), flat.device())?);
            return Ok(images.round() as usize);
        };
        // Who is here speaks first: so nobody's device waits for one who has gone before.
        let mut said = (images as u64).to_le_bytes().to_vec();
        said.extend(there);
        let (mut weights, mut total) = (Vec::with_capacity(world.size()), 0);
        self.there = vec![false; self.own.len()];
        for (rank, said) in world.gather(&said)?.iter().enumerate() {
            let Some((images, there)) =
                said.split_first_chunk().filter(|(_, rest)| rest.len() == self.own.len())
            else {
                let problem =
                    format!("it has something else than {} tensors to take means of", self.own.len());
                return Err(Error::Parted { rank, problem });
            };
            let images = u64::from_le_bytes(*images);
            weights.push(images as f64);
            total += images as usize;
            self.there.iter_mut().zip(there).for_each(|(any, there)| *any |= *there != 0);
        }
        self.means = Some(fabric.mean(&flat, &weights, &|| world.check())?);
        Ok(total)
    }

    /// The next tensor's mean, if any process had it: of that shape, on that device.
    fn take(&mut self, like: &Tensor) -> Result<Option<Tensor>> {
        let (index, at) = self.taken;
        self.taken = (index + 1, at + like.elem_count());
        match &self.means {
            Some(means) if self.there[index] => {
                let mean = means.narrow(0, at, like.elem_count())?.reshape(like.shape())?;
                Ok(Some(mean.to_dtype(like.dtype())?.to_device(like.device())?))
            }
            _ => Ok(None),
        }
    }
}

/// What a process, or all of them, have to say after a step.
pub(crate) struct Wishes {
    pub leave: bool,
    pub save: bool,
    /// Images shown.
    pub images: u64,
}

impl Wishes {
    /// A wish of one is a wish of all: they leave and save after the same step.
    pub(crate) fn of_all(self, world: &World) -> Result<Self> {
        if world.is_alone() {
            return Ok(self);
        }
        let mut said = vec![u8::from(self.leave), u8::from(self.save)];
        said.extend(self.images.to_le_bytes());
        let mut all = Self { leave: false, save: false, images: 0 };
        for (rank, said) in world.gather(&said)?.into_iter().enumerate() {
            let [leave, save, images @ ..] = <[u8; 10]>::try_from(said).map_err(|said| Error::Parted {
                rank,
                problem: format!("it says {} bytes after a step, where 10 are said", said.len()),
            })?;
            all.leave |= leave != 0;
            all.save |= save != 0;
            all.images += u64::from_le_bytes(images);
        }
        Ok(all)
    }
}

impl Training<'_> {
    /// Brings every process to where rank 0 stands, and says where that is.
    pub(crate) fn meet(&mut self, from: Progress) -> Result<Progress> {
        if self.world.is_alone() {
            return Ok(from);
        }
        let own = if self.world.leads() { Some(self.checkpoint(&from)?) } else { None };
        let first = Checkpoint::follow(own.as_ref(), self.world)?;
        // The first too: what all begin with went the same way.
        self.restore(&first)
    }

    /// Puts the mean over all processes in place of what layers have seen in a step of so many images here.
    pub(crate) fn share_statistics(&self, images: usize) -> Result<()> {
        if self.world.is_alone() {
            return Ok(());
        }
        let (buffers, mut parcel) = (self.params.buffers(), Parcel::default());
        if buffers.is_empty() {
            return Ok(());
        }
        for (_, var) in &buffers {
            parcel.add(Some(var), var.elem_count())?;
        }
        parcel.send(self.world, images)?;
        for (_, var) in &buffers {
            if let Some(mean) = parcel.take(var)? {
                var.set(&mean)?;
            }
        }
        Ok(())
    }

    /// Of what several processes keep, only statistics have a mean.
    pub(crate) fn check_together(&self) -> Result<()> {
        let ours = |name: &str| STATISTICS.iter().any(|kind| name.ends_with(kind));
        match self.params.buffers().into_iter().find(|(name, _)| !ours(name)) {
            Some((name, _)) if !self.world.is_alone() => Err(Error::setting(
                name,
                "a memory of single images is kept by the process that saw them: train this one with one process",
            )),
            _ => Ok(()),
        }
    }
}
