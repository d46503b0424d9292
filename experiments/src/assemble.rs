//! A recipe becomes parts: data, student, teacher, objective, phases.

use crate::cli::Session;
use crate::network::{Arithmetic, Frozen, Weights, fill, find};
use crate::pixels::expected;
use crate::progress::Preparing;
use crate::recipe::{ApartSpec, PhaseSpec, StudentSpec};
use crate::summary::{Network, Taught};
use crate::{Error, LensSpec, Misfit, Recipe, Result, TermSpec, rundir};
use candle::{Device, Var};
use candle_nn::VarBuilder;
use sokd_core::{
    Backbone, Batches, Build, BuildCx, Dataset, DatasetInfo, Key, LearnSplit, Mode, Preview, Split, Step,
    graft,
};
use sokd_data::{Loader, Sequential};
use sokd_models::{Precision, Remembered};
use sokd_nn::{Groups, Optimizer, Params};
use sokd_train::{Distiller, Phase, Shown, TermOf, Toward};
use std::sync::Arc;

/// Everything that a run works with.
pub struct Parts {
    /// The images, as the student sees them: with the pixel statistics that it normalises by.
    pub info: DatasetInfo,
    /// The weights that move, and those of the teacher not among them.
    pub params: Params,
    /// Student, teacher and objective.
    pub distiller: Distiller,
    /// What moves, toward what.
    pub phases: Vec<Phase>,
    /// What is shown.
    pub images: Images,
    /// What the student costs.
    pub student: Network,
    /// Who teaches, and with what.
    pub teacher: Option<Teaching>,
}

/// The images of a run, in batches.
pub struct Images {
    /// What students learn from.
    pub train: Box<dyn Batches>,
    /// Held out of training, where a phase learns from it.
    pub search: Option<Box<dyn Batches>>,
    /// What the student is judged by.
    pub test: Box<dyn Batches>,
    /// Those held out of training in an order for judging, if there are any.
    pub held_out: Option<Box<dyn Batches>>,
}

/// A teacher as the recipe has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Teaching {
    /// What it is and costs.
    pub network: Network,
    /// Where its weights come from.
    pub weights: String,
    /// Their digest.
    pub sha256: Option<String>,
}

/// Builds every part of a recipe; no step is made.
///
/// # Errors
/// Whatever a part needs and does not find, in the order data, teacher, student, objective, phases.
pub fn assemble(recipe: &Recipe, session: &Session) -> Result<Parts> {
    let (key, device) = (Key::new(recipe.seed), &session.device);
    let dataset = session.kept.open(&recipe.data, &session.stage)?;
    let info = dataset.info().clone();

    let (teacher, teaching) = teacher(recipe, &info, key, device)?.unzip();

    let params = Params::new(key.fold("weights"));
    let learner = student(recipe, &info, &params, device)?;

    let about =
        About { session, dataset: dataset.as_ref(), student: learner.as_ref(), teacher: teacher.as_deref() };
    let who = teacher.as_deref().zip(teaching.as_ref()).map(|(net, teaching)| teaching.who(net, recipe));
    let terms = objective(recipe, &about, who.as_deref().unwrap_or_default(), params.builder(device))?;

    let lens = |lens: &LensSpec| lens.build(&BuildCx::alone(params.builder(device), &info));
    let lens = recipe.lens.as_ref().map(lens).transpose()?;

    let phases = recipe.phase.iter().map(|(name, spec)| phase(name, spec, recipe.epochs, &params));
    let phases: Vec<Phase> = phases.filter_map(Result::transpose).collect::<Result<_>>()?;

    let loader = |split| {
        let key = key.fold("images").fold(if split == LearnSplit::Train { "train" } else { "search" });
        let loader = Loader::new(Arc::clone(&dataset), split, recipe.batch, recipe.augment, key)?;
        Ok::<_, Error>(Box::new(loader.shared(session.share())?.on(device)?) as Box<dyn Batches>)
    };
    let in_order = |split| {
        let images = Sequential::new(Arc::clone(&dataset), split, recipe.evaluate.batch)?.on(device)?;
        Ok::<_, Error>(Box::new(images) as Box<dyn Batches>)
    };
    let caches = recipe.teacher.as_ref().is_some_and(|spec| spec.cache);
    // What is learned of the teacher before the first step may look at all of it.
    let teacher = teacher.map(|net| if caches { Box::new(Remembered::new(net)) } else { net });
    let distiller = Distiller { student: learner, teacher, lens, terms };
    // Those that count later only must not find out then that the teacher remembers too little.
    let all = || distiller.terms.iter().map(|term| (term.name.clone(), 1.0)).collect();
    probe(&distiller, &caches.then(all), dataset.as_ref(), key, device).map_err(|error| {
        if !caches {
            return error;
        }
        let problem =
            "the teacher remembers its embedding and its logits, and the objective reads more of it";
        Misfit::new(format!("teacher.cache: {problem}: {error}")).help("leave `cache` out").into()
    })?;
    let searches = phases.iter().any(|phase| phase.split == LearnSplit::Search);
    Ok(Parts {
        images: Images {
            train: loader(LearnSplit::Train)?,
            search: searches.then(|| loader(LearnSplit::Search)).transpose()?,
            test: in_order(Split::Test)?,
            held_out: (info.search > 0).then(|| in_order(Split::Search)).transpose()?,
        },
        student: network(&recipe.student, &info)?,
        teacher: teaching,
        info: DatasetInfo { pixels: distiller.student.info().pixels, ..info },
        distiller,
        params,
        phases,
    })
}

/// A student on weights that no graph tracks, for judging: `seen` are the images as [`Parts::info`] has them.
///
/// # Errors
/// None that building the student itself did not raise.
pub fn judged(
    spec: &StudentSpec,
    params: &Params,
    seen: &DatasetInfo,
    device: &Device,
) -> Result<Box<dyn Backbone>> {
    Ok(spec.build(&BuildCx::alone(params.frozen(device).pp("student"), seen))?)
}

fn student(
    recipe: &Recipe,
    data: &DatasetInfo,
    params: &Params,
    device: &Device,
) -> Result<Box<dyn Backbone>> {
    let spec = &recipe.student;
    let start = spec.weights.as_deref().map(find).transpose()?;
    let pixels = match &start {
        Some(path) => expected(None, Some(path), &spec.model, data),
        // Drawn weights know no statistics yet: the data's own are right for them, whatever the family's published
        // weights want.
        None => data.pixels,
    };
    let data = DatasetInfo { pixels, ..data.clone() };
    let net = spec.build(&BuildCx::alone(params.builder(device).pp("student"), &data))?;
    if let Some(path) = start {
        fill(params, "student", &path, net.as_ref(), &data)?;
    }
    Ok(net)
}

fn teacher(
    recipe: &Recipe,
    data: &DatasetInfo,
    key: Key,
    device: &Device,
) -> Result<Option<(Box<dyn Backbone>, Teaching)>> {
    let Some(spec) = &recipe.teacher else { return Ok(None) };
    let weights =
        Weights { from: &spec.weights, sha256: spec.sha256.as_deref(), pixels: spec.pixels.as_ref() };
    let arithmetic = Arithmetic { winograd: spec.winograd, precision: spec.precision };
    let Frozen { mut net, sha256, spec: own, .. } =
        Frozen::load(&spec.model, weights, data, key.fold("teacher"), device, arithmetic)?;
    for place in recipe.objective.values().filter_map(|term| term.loss.looks()) {
        graft::tap(net.as_mut(), place, data, device)?;
    }
    let teaching = Teaching { network: network(&own, data)?, weights: spec.weights.clone(), sha256 };
    Ok(Some((net, teaching)))
}

/// What an objective is built against.
struct About<'a> {
    session: &'a Session,
    dataset: &'a dyn Dataset,
    student: &'a dyn Backbone,
    teacher: Option<&'a dyn Backbone>,
}

/// `who` tells the teacher from all others.
fn objective(recipe: &Recipe, about: &About<'_>, who: &str, vars: VarBuilder<'_>) -> Result<Vec<TermOf>> {
    let (watch, folder) = (Preparing::new(&about.session.stage), rundir::previews());
    let preview = |teacher| Preview {
        teacher,
        who,
        images: about.dataset,
        device: &about.session.device,
        folder: &folder,
        watch: &watch,
    };
    let cx = BuildCx {
        vars,
        data: Some(about.dataset.info()),
        teacher: about.teacher.map(Backbone::info),
        student: Some(about.student.info()),
        preview: about.teacher.map(preview),
    };
    let term = |(name, spec): (&String, &TermSpec)| {
        Ok(TermOf { name: name.clone(), weight: spec.weight, loss: spec.build(&cx)? })
    };
    recipe.objective.iter().map(term).collect()
}

/// Shows the objective two images: terms that want a teacher where there is none, or maps of other shapes, say so now
/// and not after the teacher has been judged. Nothing learns from it.
fn probe(
    distiller: &Distiller,
    toward: &Toward,
    dataset: &dyn Dataset,
    key: Key,
    device: &Device,
) -> Result<()> {
    let rows: Vec<u32> = (0..dataset.info().train.min(2) as u32).collect();
    let batch = dataset.read(Split::Train, &rows)?.to_device(device)?;
    distiller.terms(&Shown::new(batch), Mode::Probe, toward, &Step::first(key))?;
    Ok(())
}

/// A phase, unless none of its groups holds weights: then the parts that it would move are not in this recipe.
fn phase(name: &str, spec: &PhaseSpec, epochs: usize, params: &Params) -> Result<Option<Phase>> {
    let moves: Vec<_> = spec.moves.iter().flat_map(|group| params.group(group)).collect();
    if moves.is_empty() {
        tracing::info!(target: "sokd", "phase {name} is left out: nothing is called {}", spec.moves.join(" or "));
        return Ok(None);
    }
    let learns = spec.moves.iter().any(|group| group == "student");
    let [from, to] = spec.epochs.unwrap_or([0, epochs]);
    Ok(Some(Phase {
        name: name.to_owned(),
        toward: spec.toward.clone(),
        split: spec.split,
        // Running statistics belong to whoever trains the student; others only look, or take them as they are.
        mode: match (learns, spec.at_rest) {
            (true, _) => Mode::Train,
            (false, false) => Mode::Probe,
            (false, true) => Mode::Eval,
        },
        every: spec.every,
        epochs: from..to,
        interlude: spec.interlude.clone(),
        update: spec.update.as_ref().start(params)?,
        clip: spec.clip,
        optimizer: optimizer(name, spec, moves)?,
        lr: spec.lr.clone(),
    }))
}

/// One optimiser for all that a phase moves, or one for each part that goes its own way.
fn optimizer(phase: &str, spec: &PhaseSpec, mut moves: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
    let mut groups = Vec::new();
    // Backwards, longer names come before those that they begin with.
    for (place, ApartSpec { lr, optim }) in spec.apart.iter().rev() {
        let below = |name: &str| name.strip_prefix(place.as_str()).is_some_and(|rest| rest.starts_with('.'));
        let (own, rest): (Vec<_>, Vec<_>) = moves.into_iter().partition(|(name, _)| below(name));
        moves = rest;
        if own.is_empty() {
            tracing::info!(target: "sokd", "phase {phase} moves nothing that is called {place}");
        } else {
            groups.push((*lr, optim.as_ref().unwrap_or(&spec.optim).build(own)?));
        }
    }
    if groups.is_empty() {
        return Ok(spec.optim.build(moves)?);
    }
    groups.insert(0, (1.0, spec.optim.build(moves)?));
    Ok(Box::new(Groups::new(groups)))
}

fn network(spec: &StudentSpec, data: &DatasetInfo) -> Result<Network> {
    let cost = sokd_models::cost(spec, data)?;
    Ok(Network { model: spec.model.label(), parameters: cost.parameters, macs: cost.macs })
}

impl Teaching {
    /// Tells it, its weights and the images that it is shown from all others; `net` is the teacher itself.
    pub fn who(&self, net: &dyn Backbone, recipe: &Recipe) -> String {
        // Drawn weights depend on the seed; all others are told apart by their digest.
        let weights = self.sha256.clone().unwrap_or_else(|| format!("drawn {}", recipe.seed));
        let spec = recipe.teacher.as_ref();
        let model = spec.map(|spec| &spec.model);
        let plainly = if spec.is_some_and(|spec| !spec.winograd) { " plainly" } else { "" };
        let mixed = if spec.is_some_and(|spec| spec.precision == Precision::Mixed) { " mixed" } else { "" };
        format!("{weights} {model:?} {:?} {:?}{plainly}{mixed}", net.info().pixels, recipe.data)
    }

    /// With what the test images say of it.
    pub fn judged(&self, top1: f64) -> Taught {
        Taught {
            network: self.network.clone(),
            weights: self.weights.clone(),
            sha256: self.sha256.clone(),
            top1,
        }
    }
}

impl Parts {
    /// What was built, for people.
    pub fn describe(&self) -> String {
        let Network { model, parameters, macs } = &self.student;
        let DatasetInfo { name, classes, train, search, test, .. } = &self.info;
        let mut lines = vec![
            format!(
                "data     {name}: {train} to learn from, {search} held out, {test} to judge by, {} classes",
                classes.len()
            ),
            format!("student  {model}: {parameters} parameters, {macs} multiplications for an image"),
        ];
        if let Some(Teaching { network: Network { model, parameters, macs }, weights, .. }) = &self.teacher {
            lines.push(format!(
                "teacher  {model} from {weights}: {parameters} parameters, {macs} multiplications"
            ));
        }
        lines.extend(self.distiller.terms.iter().map(|term| format!("term     {}", term.name)));
        lines.extend(self.phases.iter().map(|phase| {
            let moved = phase.optimizer.vars().iter().map(|(_, var)| var.elem_count()).sum::<usize>();
            format!("phase    {}: moves {moved} numbers", phase.name)
        }));
        lines.push(format!("steps    {} in an epoch", self.images.train.steps()));
        lines.join("\n")
    }
}
