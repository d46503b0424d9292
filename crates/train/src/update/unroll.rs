//! Bilevel search with an imagined step (DARTS).

use super::slopes::{Slopes, add_all};
use super::{Course, Update};
use crate::together::mean;
use crate::{Distiller, Hand, Phase, Shown};
use candle::{Tensor, Var, backprop::GradStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, LearnSplit, Result, Step, Terms};
use sokd_nn::{Params, grad_norm};
use sokd_ops::{Moved, axpby_, backward, lean_, total, with_leaves_apart};

/// Down the gradient of what the phase wants *after* the step that the student would take next.
///
/// With θ the inner weights, χ those that the phase moves, `inner` the recipe's own objective on a training batch and
/// `outer` what the phase goes toward, it is the gradient over χ of `outer(θ − lookahead · ∇inner(θ, χ), χ)`: a direct part
/// at the imagined weights, and an implicit part through the imagined step, taken as the difference of two first-order
/// gradients. Four passes over the student; nothing of it moves the student or its running statistics, and every pass sees
/// the same draws. Processes that train together imagine the same step. Where a plug-in reports scores in place of a
/// gradient, they are rewarded by the same two parts.
///
/// # Source
/// Liu et al., 2019 (DARTS, arXiv:1806.09055), equations (7) and (8), as DADA (Li et al., 2020) uses them. The lookahead is a
/// constant 0.01 and the radius 0.01 in SoKD's development code, with a weight decay of 1e-4 in the imagined step; it
/// takes the implicit part alone. DADA imagines a step of the student's present learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Unroll {
    /// The groups of weights that take the imagined step.
    pub inner: Vec<String>,
    /// The learning rate of the imagined step.
    pub lookahead: f64,
    /// The weight decay of the imagined step.
    pub weight_decay: f64,
    /// How far the two passes of the implicit part stand from the student, in units of its weights' norm.
    pub radius: f64,
    /// Which parts count.
    pub through: Through,
}

/// How the outer objective reaches the weights of the phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Through {
    /// At the imagined weights.
    Direct,
    /// Through the imagined step.
    Implicit,
    /// Both: the whole derivative.
    #[default]
    Both,
}

/// No gradient is this small and still one.
const TINY: f64 = 1e-12;

impl Default for Unroll {
    fn default() -> Self {
        Self {
            inner: vec!["student".into(), "adapter".into()],
            lookahead: 0.01,
            weight_decay: 1e-4,
            radius: 0.01,
            through: Through::Both,
        }
    }
}

impl Course for Unroll {
    fn start(&self, params: &Params) -> Result<Box<dyn Update>> {
        let fault = |name: &str, problem: &str| Err(Error::setting(format!("update.{name}"), problem));
        let inner: Vec<Var> =
            self.inner.iter().flat_map(|group| params.group(group)).map(|(_, var)| var).collect();
        if inner.is_empty() {
            return fault("inner", "no weight is in these groups");
        }
        if self.radius.is_nan() || self.radius <= 0.0 {
            return fault("radius", "a difference needs two places: above 0");
        }
        if self.lookahead.is_nan() || self.lookahead < 0.0 {
            return fault("lookahead", "a learning rate is at least 0");
        }
        let here = inner.iter().map(|var| var.as_detached_tensor().copy()).collect::<candle::Result<_>>()?;
        Ok(Box::new(Unrolled { spec: self.clone(), inner, here }))
    }
}

/// An [`Unroll`] that knows its weights.
struct Unrolled {
    spec: Unroll,
    inner: Vec<Var>,
    /// Where those stand while one imagines that they stood elsewhere.
    here: Vec<Tensor>,
}

/// What one pass says, a little off the student's weights.
struct Beside {
    terms: Terms,
    loss: Option<Tensor>,
    grads: GradStore,
}

impl Beside {
    fn of(terms: Terms) -> Result<Self> {
        let loss = total(&terms)?;
        let grads = match &loss {
            Some(loss) => backward(|| Ok(loss.backward()?))?,
            None => GradStore::default(),
        };
        Ok(Self { terms, loss: loss.map(|loss| loss.detach()), grads })
    }

    fn slopes(&self, vars: &[(String, Var)]) -> Slopes {
        Slopes::of(&self.terms, &self.grads, vars)
    }
}

impl Update for Unrolled {
    fn grads(
        &self,
        distiller: &Distiller,
        phase: &Phase,
        hand: &Hand<'_>,
        at: &Step,
    ) -> Result<(Terms, GradStore)> {
        let note = self.here.iter().zip(&self.inner).map(|(here, var)| Moved::new(here, var));
        axpby_(&note.collect::<Vec<_>>(), 1.0, 0.0)?;
        let found = self.search(distiller, phase, hand, at);
        // Also after an error, which tells more than what comes of it: the student goes on from where it was, to the bit.
        let stood = self.stand();
        let found = found?;
        stood?;
        Ok(found)
    }

    fn repeats(&self) -> bool {
        true
    }

    fn asks_all(&self) -> bool {
        true
    }
}

impl Unrolled {
    fn search(
        &self,
        distiller: &Distiller,
        phase: &Phase,
        hand: &Hand<'_>,
        at: &Step,
    ) -> Result<(Terms, GradStore)> {
        let Unroll { lookahead, weight_decay, through, radius, .. } = self.spec;
        let inner = |of: &Step| -> Result<Beside> {
            Beside::of(with_leaves_apart(|| distiller.terms(&hand.train, phase.mode, &None, of))?)
        };

        let mut step = inner(&Step { steers: false, ..*at })?.grads;
        let share = |of: &Shown, grads: &mut GradStore| {
            mean(hand.world, of.images()?, (Terms::default(), grads), self.inner.iter()).map(drop)
        };
        share(&hand.train, &mut step)?;
        axpby_(&self.moved(&step), -lookahead, 1.0 - lookahead * weight_decay)?;
        let direct = through != Through::Implicit;
        let ahead = Step { steers: direct, ..*at };
        let judge = hand.of(phase.split)?;
        let outer = with_leaves_apart(|| distiller.terms(judge, phase.mode, &phase.toward, &ahead))?;
        let mut outer = Beside::of(outer)?;
        share(judge, &mut outer.grads)?;

        let way = self.moved(&outer.grads);
        let mut sides = None;
        if through != Through::Direct && lookahead > 0.0 && !way.is_empty() {
            let norm = grad_norm(&self.inner, &outer.grads)?;
            // Down a slope of 0 it goes nowhere, and both sides are the same.
            let radius = (norm.clamp(TINY, f64::from(f32::MAX))?.recip()? * radius)?;
            let still = Step { steers: true, learns: false, ..*at };
            let beside = |radius: &Tensor| {
                self.stand()?;
                lean_(&way, radius)?;
                inner(&still)
            };
            let (up, down) = (beside(&radius)?, beside(&radius.neg()?)?);
            sides = Some((up, down, (radius.recip()? * (-0.5 * lookahead))?));
        }

        let vars = phase.optimizer.vars();
        let mut ways = Vec::new();
        if direct {
            ways.push(outer.slopes(vars));
        }
        if let Some((up, down, scale)) = &sides {
            let implicit = up.slopes(vars).above(&down.slopes(vars), scale)?;
            match ways.pop() {
                Some(direct) if phase.split == LearnSplit::Train => ways.push(direct.plus(&implicit)?),
                direct => ways.extend(direct.into_iter().chain([implicit])),
            }
        }
        let mut grads = GradStore::default();
        ways.into_iter().try_for_each(|way| way.add_to(&mut grads, vars))?;
        let scores = sides.as_ref().map_or(&outer, |(up, ..)| up).terms.scores();
        if let Some(reward) = reward(direct.then_some(&outer), sides.as_ref())? {
            for score in scores {
                add_all(&mut grads, &backward(|| Ok((score * &reward)?.backward()?))?, vars)?;
            }
        }
        Ok((outer.terms, grads))
    }

    /// The student's weights that have a gradient, and how it goes.
    fn moved<'a>(&'a self, grads: &'a GradStore) -> Vec<Moved<'a, 0>> {
        self.inner.iter().filter_map(|var| Some(Moved::new(var, grads.get(var)?))).collect()
    }

    /// Has the student stand where it stood.
    fn stand(&self) -> Result<()> {
        let back = self.inner.iter().zip(&self.here).map(|(var, here)| Moved::new(var, here));
        axpby_(&back.collect::<Vec<_>>(), 1.0, 0.0)
    }
}

/// What a draw has brought, `()`: at the imagined weights, and through the step to them.
fn reward(outer: Option<&Beside>, sides: Option<&(Beside, Beside, Tensor)>) -> Result<Option<Tensor>> {
    let direct = outer.and_then(|outer| outer.loss.clone());
    let Some((up, down, scale)) = sides else { return Ok(direct) };
    let Some((up, down)) = up.loss.as_ref().zip(down.loss.as_ref()) else { return Ok(direct) };
    let through = ((up - down)? * scale)?;
    Ok(Some(match direct {
        Some(direct) => (direct + through)?,
        None => through,
    }))
}
