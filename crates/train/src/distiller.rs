use crate::Schedule;
use candle::{Tensor, Var, backprop::GradStore};
use sokd_core::{
    Backbone, Batch, Cut, DistillLoss, Error, Forward, LearnSplit, Lens, Mode, Pair, Result, Side, Step,
    Terms,
};
use sokd_ops::{backward, put_};
use sokd_world::{ALONE, World};
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// One named part of the objective.
pub struct TermOf {
    /// How logs call it, in front of its own terms' names: `distill` over `kd` is `distill/kd`.
    pub name: String,
    /// What it counts for.
    pub weight: Schedule,
    /// Who compares.
    pub loss: Box<dyn DistillLoss>,
}

/// A student, perhaps a teacher, and what is asked of them.
pub struct Distiller {
    /// Who learns.
    pub student: Box<dyn Backbone>,
    /// Who is learned from: a network on weights that no graph tracks.
    pub teacher: Option<Box<dyn Backbone>>,
    /// What stands between the images and both of them.
    pub lens: Option<Box<dyn Lens>>,
    /// The objective.
    pub terms: Vec<TermOf>,
}

/// Weights for some terms in place of the objective's own, by name: a whole term (`distill`), or a part of what it
/// says (`distill/aug`). Terms not named count nothing.
pub type Toward = Option<BTreeMap<String, f64>>;

impl Distiller {
    /// What both networks will see of a batch.
    pub(crate) fn look(&self, batch: &Batch, at: &Step) -> Result<Shown> {
        let Some(lens) = &self.lens else { return Ok(Shown::new(batch.clone())) };
        let (seen, said) = lens.look(batch, &Step { key: at.key.fold("lens"), ..*at })?;
        let (before, after, showings) = (batch.labels.dim(0)?, seen.labels.dim(0)?, lens.shows(at));
        if after != before * showings {
            let problem =
                format!("it says that it shows examples {showings} times, and of {before} it shows {after}");
            return Err(Error::setting("lens", problem));
        }
        // The way back through a lens that learns is gone once, with the whole gradient of what it has made.
        let mut cuts = Vec::new();
        let mut cut = |made: &Tensor| -> Result<Tensor> {
            if !made.track_op() {
                return Ok(made.clone());
            }
            let cut = Cut::behind(made.clone())?;
            let leaf = cut.leaf.as_tensor().clone();
            cuts.push(cut);
            Ok(leaf)
        };
        let (images, said) = (cut(&seen.images)?, said.under("lens", 1.0).each(cut)?);
        Ok(Shown { said, showings, cuts, ..Shown::new(Batch { images, ..seen }) })
    }

    /// Has the parts of the objective draw for a step ahead of it, and [lay down](DistillLoss::draw) what comes of it: those that
    /// count toward one of these.
    pub(crate) fn lay(&self, towards: &[&Toward], at: &Step) -> Result<()> {
        let counts = |term: &&TermOf| towards.iter().any(|toward| counts_for(term, toward, at) != 0.0);
        self.terms.iter().filter(counts).try_for_each(|term| term.loss.draw(&inside(term, at)))
    }

    /// The terms that count in a step, what for, and the step as it looks to them.
    fn counting(&self, toward: &Toward, at: &Step) -> impl Iterator<Item = (&TermOf, f64, Step)> {
        let weighed =
            self.terms.iter().map(move |term| (term, counts_for(term, toward, at), inside(term, at)));
        weighed.filter(|(_, weight, _)| *weight != 0.0)
    }

    /// Shows a batch to both networks and asks every term that counts.
    pub fn terms(&self, shown: &Shown, mode: Mode, toward: &Toward, at: &Step) -> Result<Terms> {
        if !at.drawn {
            self.lay(&[toward], at)?;
            let seen = self.look(&shown.batch, at)?;
            // Of images that are new in every pass, nothing said before holds.
            let shown = if self.lens.is_some() { &seen } else { shown };
            return self.terms(shown, mode, toward, &Step { drawn: true, ..*at });
        }
        let mut all = shown.cuts.iter().cloned().fold(shown.said.clone(), Terms::cut);
        let Batch { images, labels, rows } = shown.batch.clone();
        let mut student = Side::new(self.student.as_ref(), mode, &images)?;
        if !at.learns {
            student.out = student.out.detach()?;
        }
        let teacher = self.teacher.as_deref().map(|net| shown.teacher(net)).transpose()?;
        let showings = shown.showings;
        let pair = Pair { images, labels, rows, showings, student, teacher, adapted: BTreeMap::new() };
        for (TermOf { name, loss, .. }, weight, at) in self.counting(toward, at) {
            let terms = match toward.as_ref().and_then(|toward| parts(name, toward)) {
                Some(parts) => loss.named(&pair, &at, &parts)?,
                None => loss.terms(&pair, &at)?,
            };
            all.extend(terms.under(name, weight));
        }
        Ok(match toward {
            None => all,
            Some(toward) => all.toward(toward),
        })
    }
}

/// What a term counts for in a step.
fn counts_for(term: &TermOf, toward: &Toward, at: &Step) -> f64 {
    match toward {
        None => term.weight.at(at),
        Some(toward) => f64::from(u8::from(toward.keys().any(|key| speaks(&term.name, key)))),
    }
}

/// A step as it looks to a term.
fn inside(term: &TermOf, at: &Step) -> Step {
    Step { key: at.key.fold(&term.name), ..*at }
}

/// The parts of a term that count; `None` where all of it does.
fn parts<'a>(term: &str, toward: &'a BTreeMap<String, f64>) -> Option<Vec<&'a str>> {
    let counts = |(key, weight): (&'a String, &f64)| (*weight != 0.0).then_some(key);
    let keys = toward.iter().filter_map(counts).filter(|key| speaks(term, key));
    keys.map(|key| key.strip_prefix(term)?.strip_prefix('/')).collect()
}

/// Whether `key` names the term or a part of what it says.
pub(crate) fn speaks(term: &str, key: &str) -> bool {
    key.split('/').next() == Some(term)
}

/// A batch, and what the teacher said about it: asked once, whoever wants to know.
pub struct Shown {
    /// The images and their labels.
    pub batch: Batch,
    /// What the lens says of them, that showed them so.
    pub(crate) said: Terms,
    /// How often it shows them.
    showings: usize,
    /// Where the graph is cut behind the lens, if that learns.
    cuts: Vec<Cut>,
    /// Of a copy: what is behind those cuts here, and where the gradient of each is left.
    left: Vec<[Tensor; 2]>,
    teacher: OnceCell<Forward>,
}

impl Shown {
    /// Nobody was asked yet.
    pub fn new(batch: Batch) -> Self {
        let (said, cuts, left) = (Terms::default(), Vec::new(), Vec::new());
        Self { batch, said, showings: 1, cuts, left, teacher: OnceCell::new() }
    }

    /// The same in memory of its own.
    pub(crate) fn copy(&self) -> Result<Self> {
        let Batch { images, labels, rows } = &self.batch;
        let mut left = Vec::new();
        let mut copy = |made: &Tensor| -> Result<Tensor> {
            let copy = made.to_device(images.device())?.detach().force_contiguous()?;
            if !self.cuts.iter().any(|cut| cut.leaf.id() == made.id()) {
                return Ok(copy);
            }
            let leaf = Var::from_tensor(&copy)?.into_inner();
            left.push([leaf.clone(), leaf.zeros_like()?]);
            Ok(leaf)
        };
        let batch = Batch { images: copy(images)?, labels: labels.copy()?, rows: rows.copy()? };
        let said = self.said.clone().each(copy)?;
        Ok(Self { said, showings: self.showings, left, ..Self::new(batch) })
    }

    /// Puts another's numbers in the place of its own.
    pub(crate) fn put(&self, other: &Self) -> Result<()> {
        let (own, batch) = (&self.batch, &other.batch);
        put_(&own.images, &batch.images)?;
        put_(&own.labels, &batch.labels)?;
        put_(&own.rows, &batch.rows)?;
        let mut said = self.said.iter().zip(&other.said);
        said.try_for_each(|(own, other)| put_(&own.value, &other.value.to_device(own.value.device())?))
    }

    /// The same, and nobody was asked yet.
    pub(crate) fn anew(&self) -> Self {
        let (said, left) = (self.said.clone(), self.left.clone());
        Self { said, showings: self.showings, left, ..Self::new(self.batch.clone()) }
    }

    /// Leaves the gradients of what a lens has made, each in its place; of terms that count nothing there are none.
    ///
    /// # Errors
    /// [`Error::Setting`] where none was found for images.
    pub(crate) fn leave(&self, grads: &GradStore) -> Result<()> {
        self.left.iter().try_for_each(|[leaf, place]| match grads.get(leaf) {
            Some(found) => put_(place, found),
            None if leaf.id() == self.batch.images.id() => {
                Err(Error::setting("lens", "no gradient reaches the images"))
            }
            None => Ok(()),
        })
    }

    /// What becomes behind the lens of the gradients that a copy has left.
    pub(crate) fn across(&self, copy: &Self) -> Result<GradStore> {
        let found: Vec<_> = copy.left.iter().map(|[_, place]| Some(place.clone())).collect();
        backward(|| Cut::across(&self.cuts, &found))
    }

    /// How many images there are.
    pub(crate) fn images(&self) -> Result<usize> {
        Ok(self.batch.labels.dim(0)?)
    }

    /// The teacher and its word, through which gradients pass to nothing but images that are tracked.
    fn teacher<'a>(&self, net: &'a dyn Backbone) -> Result<Side<'a>> {
        if self.teacher.get().is_none() {
            let out = net.forward(&self.batch.images, Mode::Eval)?;
            let _ = self.teacher.set(if self.batch.images.track_op() { out } else { out.detach()? });
        }
        let out = self.teacher.get().cloned().expect("it was asked just now");
        Ok(Side { net, mode: Mode::Eval, out })
    }
}

/// One batch of each split that a phase may ask for in a step, or of each the share of this process.
pub struct Hand<'a> {
    /// What students learn from.
    pub train: Shown,
    /// Held out of training, where a phase that is due learns from it.
    pub search: Option<Shown>,
    /// Who has the other shares.
    pub world: &'a World,
}

impl Hand<'_> {
    /// The batch of a split.
    ///
    /// # Errors
    /// [`Error::Setting`] when nothing was drawn from it.
    pub fn of(&self, split: LearnSplit) -> Result<&Shown> {
        match split {
            LearnSplit::Train => Ok(&self.train),
            LearnSplit::Search => self.search.as_ref().ok_or_else(no_search),
        }
    }

    /// Whole batches of training images, of a process that is alone.
    pub fn alone(train: Shown) -> Self {
        Self { train, search: None, world: &ALONE }
    }

    /// The same in memory of its own, in the hand of a process that is alone.
    pub(crate) fn copy(&self) -> Result<Hand<'static>> {
        let search = self.search.as_ref().map(Shown::copy).transpose()?;
        Ok(Hand { search, ..Hand::alone(self.train.copy()?) })
    }

    /// Puts another's numbers in the place of its own.
    pub(crate) fn put(&self, other: &Self) -> Result<()> {
        self.train.put(&other.train)?;
        self.search.iter().zip(&other.search).try_for_each(|(own, other)| own.put(other))
    }

    /// The same, and nobody was asked yet.
    pub(crate) fn anew(&self) -> Self {
        Self { train: self.train.anew(), search: self.search.as_ref().map(Shown::anew), world: self.world }
    }

    /// Images in the hand, of which a lens shows students so many for one.
    pub fn images(&self, shows: usize) -> Result<usize> {
        Ok(self.train.images()? * shows + self.search.as_ref().map(Shown::images).transpose()?.unwrap_or(0))
    }
}

pub(crate) fn no_search() -> Error {
    Error::setting("split", "a phase learns from the search split, and none is held out of training")
}
