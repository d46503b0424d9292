use crate::ahead::Ahead;
use crate::ops::OperationSpec;
use crate::policy::Habits;
use crate::{Chosen, Draw, Drawn, Lots, Policy, Relaxed, Space};
use candle::{D, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{
    BackboneInfo, Build, BuildCx, Cut, Error, Lazy, Mode, Pair, Refiner, Result, Side, Stage, Step, Terms,
};
use sokd_nn::{Adapter, Hint};
use sokd_ops::{Laid, energy, log_softmax, squared_distance};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// DAFA: a learned policy rewrites the teacher's maps before a loss reads them. The teacher's weights stay as they are.
///
/// Its terms, none of which counts until a phase goes toward it or a setting says so: `aug`, the augmentation loss; `teacher-task`, the
/// cross-entropy of the frozen rest of the teacher on the refined map, where it is asked for and a policy is steered;
/// `entropy`, of the choice among sub-policies.
///
/// # Formula
/// ```text
/// F′  = o₂(o₁(F_teacher; m₁, b₁); m₂, b₂)             (o₁, o₂) ~ softmax(α), bᵢ ~ Bernoulli(βᵢ); α, β, m learned
/// aug = ½ mean over H, W, C of (F′ − Φ(F_student))²   Φ: the adapter
/// ```
///
/// # Source
/// SoKD (arXiv:2409.18785), by equations (E1) to (E9) of the book's page on DAFA, which says where each is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dafa {
    /// Where the augmentation loss compares; its adapter is shared with a host of the same hint.
    pub hint: Hint,
    /// The teacher's stages whose maps are rewritten, all by the same draw: `hint`, `all`, or some, counted from 0.
    pub stages: Stages,
    /// How far a rewritten map reaches.
    pub through: Through,
    /// What a sub-policy is a pair of.
    pub operations: Vec<OperationSpec>,
    /// How the policy gets its gradient.
    pub estimator: Estimator,
    /// What `aug` counts for where the student learns: nothing, as in (E12). Ours: 1 where no host and no other plug-in has
    /// the same hint, since then nobody else teaches the adapter by which the policy is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aug: Option<f64>,
    /// Whether a pass that steers also tells `teacher-task`: it runs the rest of the teacher for it.
    pub teacher_task: bool,
    /// Of the softened draw, the equations' τ.
    pub temperature: f64,
    /// Whether probabilities and levels that a step drove out of [0, 1] are brought back before the next.
    pub project: bool,
}

/// Which of the teacher's stages are rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stages {
    /// The hint's, and no other.
    #[default]
    Hint,
    /// Each, for hosts that read several.
    All,
    /// Some, counted from 0.
    #[serde(untagged)]
    These(Vec<usize>),
}

/// How far a rewritten map reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Through {
    /// Its own stage, and the embedding where that is the last one; later maps and logits are the teacher's own.
    #[default]
    Maps,
    /// The frozen rest of the teacher, logits included: ours, for losses that read those.
    Network,
}

/// How the policy gets its gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// Straight through the draw, by Gumbel-Softmax: (E1) to (E4).
    #[default]
    Gumbel,
    /// By the draw's probability and what it brought: (E9). Levels still learn by (E4).
    Score,
    /// Not at all: a policy at random, the control.
    None,
}

impl Default for Dafa {
    fn default() -> Self {
        Self {
            hint: Hint::default(),
            stages: Stages::Hint,
            through: Through::Maps,
            operations: OperationSpec::examples(),
            estimator: Estimator::Gumbel,
            aug: None,
            teacher_task: false,
            temperature: 0.5,
            project: true,
        }
    }
}

impl Dafa {
    /// The stages that are rewritten, in order.
    fn rewritten(&self, teacher: &BackboneInfo) -> Result<Vec<usize>> {
        let mut stages = match &self.stages {
            Stages::Hint => vec![self.hint.stage],
            Stages::All => (0..teacher.stages.len()).collect(),
            Stages::These(stages) => stages.clone(),
        };
        stages.sort_unstable();
        stages.dedup();
        for &stage in &stages {
            teacher.stage(stage)?;
        }
        let fault = |problem: &str| Err(Error::setting("dafa.stages", problem));
        match self.through {
            Through::Network if stages.len() != 1 => {
                fault("the network carries one stage's change to those behind it: name one")
            }
            Through::Network if stages[0] > self.hint.stage => fault(
                "the hint's stage stands before the one that is rewritten, and no policy could reach it",
            ),
            Through::Maps if !stages.contains(&self.hint.stage) => {
                fault("the hint's stage is not among them, and the augmentation loss would see no policy")
            }
            Through::Maps | Through::Network => Ok(stages),
        }
    }
}

impl Build<dyn Refiner> for Dafa {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Refiner>> {
        let stages = self.rewritten(cx.teacher("dafa")?)?;
        if self.temperature.is_nan() || self.temperature <= 0.0 {
            return Err(Error::setting("dafa.temperature", format!("{} is not above 0", self.temperature)));
        }
        let space = Arc::new(Space::new(self.operations.clone())?);
        Ok(Box::new(Augmenting {
            policy: match self.estimator {
                Estimator::None => Policy::at_random(&space, self.temperature, cx.vars.device())?,
                Estimator::Gumbel | Estimator::Score => Policy::new(&cx.vars, &space, self.temperature)?,
            },
            adapter: self.hint.build(cx, "dafa")?,
            places: space.places(cx.vars.device())?,
            can_be_laid: space.can_be_laid(),
            ahead: Mutex::default(),
            names: space.names(),
            space,
            stages,
            dafa: self.clone(),
        }))
    }
}

/// A [`Dafa`] with its policy and its adapter.
struct Augmenting {
    dafa: Dafa,
    stages: Vec<usize>,
    space: Arc<Space>,
    names: Vec<String>,
    policy: Policy,
    /// Where operations stand in the space's pairs.
    places: Tensor,
    adapter: Adapter,
    /// Whether a GPU has kernels for all operations.
    can_be_laid: bool,
    ahead: Mutex<Ahead>,
}

impl Refiner for Augmenting {
    fn refine<'a>(&self, pair: Pair<'a>, at: &Step) -> Result<(Pair<'a>, Terms)> {
        let steered = self.steered(at);
        if steered && self.dafa.project {
            self.policy.project()?;
        }
        let plain = pair.teacher("dafa")?.clone();
        let first = plain.out.stage(self.stages[0])?.map.clone();
        // Where images are learned, a gradient passes through the map.
        let laid = self.lays(at) && !first.track_op();
        let (draw, lots) = if laid { (None, self.laid(at)?) } else { self.told(at)? };
        let relaxed = steered.then(|| self.relaxed(&lots)).transpose()?;
        // Here the graph is cut: the way from a map back to the policy asks all sub-policies, so an update goes it once, with the
        // gradients of all its passes.
        let mut cuts = Vec::new();
        let nothing = |draw: &Arc<Draw>| draw.bits[draw.pair] == [false; 2];
        let idle = relaxed.is_none() && draw.as_ref().is_some_and(nothing);
        let rewritten = |map: &Tensor, preact: Option<Lazy>| {
            let drawn = match &draw {
                Some(draw) => Drawn::Told(Arc::clone(&self.space), Arc::clone(draw)),
                None => self.there(map, &lots)?,
            };
            let Some(relaxed) = &relaxed else {
                let map = drawn.change(map)?;
                let changed = |preact: Lazy| Lazy::new(move || drawn.change(&preact.tensor()?));
                return Ok((map, preact.map(changed)));
            };
            let mut chosen = |map: &Tensor| -> Result<Tensor> {
                let cut = Cut::behind(Chosen::of(map, &drawn, relaxed)?)?;
                let map = cut.leaf.as_tensor().clone();
                cuts.push(cut);
                Ok(map)
            };
            let map = chosen(map)?;
            // Whoever reads it later finds its cut among the terms already.
            let preact = preact.map(|preact| chosen(&preact.tensor()?).map(Lazy::from)).transpose()?;
            Ok((map, preact))
        };
        let teacher = if idle { plain } else { self.rewrite(plain, rewritten)? };
        let ratio = (norm(&teacher.out.stage(self.stages[0])?.map)? / norm(&first)?)?;

        let (student, pair) = self.adapter.share(Pair { teacher: Some(teacher), ..pair }, at)?;
        let teachers = self.adapter.teachers(&pair, "dafa")?;
        let distance = (squared_distance(&teachers, &student)? / teachers.dim(D::Minus1)? as f64)?;
        let terms = cuts.into_iter().fold(Terms::default(), Terms::cut);
        let mut terms = terms.with("aug", self.dafa.aug.unwrap_or(0.0), (each(distance)? * 0.5)?);
        if steered {
            terms = terms.with("entropy", 0.0, self.policy.entropy()?);
            if self.dafa.teacher_task {
                let labels = pair.labels.unsqueeze(1)?;
                let logits = self.verdict(pair.teacher("dafa")?)?;
                let own = log_softmax(&logits)?.gather(&labels, 1)?.squeeze(1)?;
                terms = terms.with("teacher-task", 0.0, own.neg()?);
            }
            if self.dafa.estimator == Estimator::Score {
                terms = terms.score(self.policy.log_probability(&lots)?);
            }
        }
        terms = self.readings(terms.reading("norm-ratio", &ratio), &lots, pair.student.mode)?;
        Ok((pair, terms))
    }

    fn draw(&self, at: &Step) -> Result<()> {
        if !self.lays(at) {
            return Ok(());
        }
        let mut ahead = self.ahead();
        let draw = ahead.standing(at, || self.policy.standing())?.draw(at.key.fold("dafa"));
        ahead.lay(&self.space, draw, self.steered(at), self.policy.alpha().device())
    }
}

impl Augmenting {
    /// Whether a gradient for the policy is wanted.
    fn steered(&self, at: &Step) -> bool {
        at.steers && self.dafa.estimator != Estimator::None
    }

    /// Whether what is drawn for a step lies where a GPU reads it. No gradient passes to the map there.
    fn lays(&self, at: &Step) -> bool {
        self.can_be_laid && Laid::reaches(self.policy.alpha()) && !at.focuses
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A draw that lies there.
    fn laid(&self, at: &Step) -> Result<Lots> {
        // Who steers in a step that was not to be one draws once more: the same, and what it asks.
        let answers = !self.steered(at) || self.ahead().answers();
        if !at.drawn || !answers {
            self.draw(at)?;
        }
        self.ahead().lots().ok_or_else(undrawn)
    }

    /// And who changes a map by it.
    fn there(&self, map: &Tensor, lots: &Lots) -> Result<Drawn> {
        let place = self.ahead().place(&self.space, map)?.ok_or_else(undrawn)?;
        Ok(Drawn::Laid(place, lots.bits()?))
    }

    /// A draw of this side.
    fn told(&self, at: &Step) -> Result<(Option<Arc<Draw>>, Lots)> {
        let draw = Arc::new(self.policy.draw(at.key.fold("dafa"))?);
        let lots = Lots::new(&self.space, &draw, self.policy.alpha().device())?;
        Ok((Some(draw), lots))
    }

    /// What the policy's gradient passes through.
    fn relaxed(&self, lots: &Lots) -> Result<Relaxed> {
        let relaxed = self.policy.relaxed(lots)?;
        Ok(match self.dafa.estimator {
            Estimator::Score => {
                Relaxed { choice: relaxed.choice.detach(), bits: relaxed.bits.detach(), ..relaxed }
            }
            Estimator::Gumbel | Estimator::None => relaxed,
        })
    }

    /// The teacher with its maps refined.
    fn rewrite<'a>(
        &self,
        mut side: Side<'a>,
        mut refined: impl FnMut(&Tensor, Option<Lazy>) -> Result<(Tensor, Option<Lazy>)>,
    ) -> Result<Side<'a>> {
        for &stage in &self.stages {
            let Stage { map, preact, said } = side.out.stage(stage)?.clone();
            // A network that has no map before its last ReLU at hand makes one out of the refined map.
            let (map, preact) = refined(&map, preact)?;
            if self.dafa.through == Through::Network {
                side = side.rewrite(stage, map.clone())?;
            } else if stage + 1 == side.out.stages.len() {
                side.out.pooled = side.net.head(&map, side.mode.quiet())?.pooled;
            }
            side.out.stages[stage] = Stage { map, preact, said };
        }
        Ok(side)
    }

    /// What the frozen rest of the teacher says of the refined map, `(batch, classes)`.
    fn verdict(&self, teacher: &Side<'_>) -> Result<Tensor> {
        if self.dafa.through == Through::Network {
            return Ok(teacher.out.logits.clone());
        }
        let last = self.stages[self.stages.len() - 1];
        let map = teacher.out.stage(last)?.map.clone();
        Ok(teacher.net.resume(&teacher.out, last, map, teacher.mode.quiet())?.logits)
    }

    /// What was executed, and in a phase of a policy what the policy does on average.
    fn readings(&self, mut terms: Terms, lots: &Lots, mode: Mode) -> Result<Terms> {
        for (executed, name) in lots.executed()?.iter().zip(&self.names) {
            terms = terms.reading(&format!("drawn/{name}"), executed);
        }
        if mode != Mode::Probe {
            return Ok(terms);
        }
        let Habits { probability, execution, level } = self.policy.habits(&self.places)?;
        for (at, name) in self.names.iter().enumerate() {
            for (what, of) in [("probability", &probability), ("execution", &execution), ("level", &level)] {
                terms = terms.reading(&format!("{what}/{name}"), &of.narrow(0, at, 1)?.squeeze(0)?);
            }
        }
        Ok(terms)
    }
}

fn undrawn() -> Error {
    Error::setting("dafa", "nothing was drawn for this step")
}

/// The mean over everything but the batch, axis by axis: one sum over a map would lose digits in `f32`.
fn each(mut map: Tensor) -> Result<Tensor> {
    while map.rank() > 1 {
        map = map.mean(D::Minus1)?;
    }
    Ok(map)
}

/// ‖F‖ over a batch, as its root mean square: `()`.
fn norm(map: &Tensor) -> Result<Tensor> {
    Ok(each(energy(&map.detach())?)?.mean_all()?.sqrt()?)
}
