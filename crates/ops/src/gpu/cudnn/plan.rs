//! How cuDNN goes about a task: by one of the ways that it offers, best first by its own estimate.

use super::descriptor::{Address, Descriptor};
use super::task::{Part, Task};
use candle::Result;
use candle::cuda_backend::cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptorType_t as Kind, cudnnBackendHeurMode_t as Advice,
    cudnnBackendNumericalNote_t as Note, cudnnHandle_t,
};

/// For which GPU plans are made.
pub(super) enum Planner {
    Handle(cudnnHandle_t),
    /// One that is not here, by what is known of it.
    #[cfg(test)]
    Properties(Descriptor),
}

impl Planner {
    /// Tells a descriptor for which GPU it is, by an attribute of either kind.
    #[cfg_attr(not(test), expect(unused_variables, reason = "the GPU is here"))]
    pub(super) fn told(
        &self,
        descriptor: Descriptor,
        handle: Name,
        properties: Option<Name>,
    ) -> Result<Descriptor> {
        match *self {
            Self::Handle(of) => descriptor.with(handle, &[of]),
            #[cfg(test)]
            Self::Properties(ref of) => match properties {
                Some(properties) => descriptor.of(properties, &[of]),
                None => Ok(descriptor),
            },
        }
    }

    /// The ways to do a task that suit, best first; behind them, if `all` are wanted, those of which cuDNN promises nothing but that
    /// they go.
    pub(super) fn ways(&self, task: &Task, all: bool) -> Result<Vec<Descriptor>> {
        let graph = task.graph(self)?;
        let mut ways = self.advised(&graph, Advice::CUDNN_HEUR_MODE_A)?;
        if all {
            // Without these, there are the others.
            ways.extend(self.advised(&graph, Advice::CUDNN_HEUR_MODE_FALLBACK).unwrap_or_default());
        }
        let mut suitable = Vec::new();
        for way in ways {
            if suits(&way, task)? {
                suitable.push(way);
            }
        }
        Ok(suitable)
    }

    fn advised(&self, graph: &Descriptor, advice: Advice) -> Result<Vec<Descriptor>> {
        let heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
            .of(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph])?
            .with(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[advice])?;
        let heuristics = match *self {
            Self::Handle(_) => heuristics,
            #[cfg(test)]
            Self::Properties(ref of) => heuristics.of(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, &[of])?,
        };
        let results = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
        heuristics.sealed()?.others(results, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
    }

    /// The plan by a way.
    pub(super) fn by(&self, way: Descriptor) -> Result<Plan> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
            .of(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[&way])?;
        Ok(Plan { way: Some(way), ..self.sealed(plan)? })
    }

    /// The plan that was [written](Plan::written).
    pub(super) fn read(&self, written: &str) -> Result<Plan> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
        self.sealed(plan.with(Name::CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, written.as_bytes())?)
    }

    fn sealed(&self, plan: Descriptor) -> Result<Plan> {
        let properties = Some(Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
        let plan = self.told(plan, Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, properties)?.sealed()?;
        let bytes = plan.number(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        Ok(Plan { sealed: plan, way: None, bytes: bytes.try_into().unwrap_or(0) })
    }
}

/// Whether a way adds in order, and in the precision that was asked for. What two kernels do as well is not done by one without tensor cores
/// where the others have them.
fn suits(way: &Descriptor, task: &Task) -> Result<bool> {
    const TENSOR_CORE: i32 = Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE as i32;
    const STRICT_NAN: i32 = Note::CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP as i32;
    let (_, notes) = engine(way)?;
    let exact = task.map == candle::DType::F32 && !task.tf32;
    let (rounds, harmless) = (notes.contains(&TENSOR_CORE), [TENSOR_CORE, STRICT_NAN]);
    let as_precise = notes.iter().all(|note| harmless.contains(note)) && !(exact && rounds);
    Ok(as_precise && (exact || rounds || task.pass.is_needed()))
}

/// A way's engine: its number among cuDNN's, and what cuDNN notes of its arithmetic.
pub(super) fn engine(way: &Descriptor) -> Result<(i64, Vec<i32>)> {
    let engine = way.others(Name::CUDNN_ATTR_ENGINECFG_ENGINE, Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    let Some(engine) = engine.first() else { candle::bail!("cuDNN: a way without an engine") };
    let notes = engine.notes(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE)?;
    Ok((engine.number(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?, notes))
}

/// A task's way, ready to go.
pub(super) struct Plan {
    sealed: Descriptor,
    /// Bytes that it works in.
    pub(super) bytes: usize,
    /// Which cuDNN may read as long as there is the plan.
    #[expect(dead_code, reason = "it is held")]
    way: Option<Descriptor>,
}

impl Plan {
    /// The plan as cuDNN [reads](Planner::read) it, with the kernels that it had compiled.
    pub(super) fn written(&self) -> Result<String> {
        self.sealed.text(Name::CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION)
    }

    /// Has the device do the task.
    ///
    /// # Safety
    /// Of each part, the address is that of as many numbers as it has; of `work`, of as many bytes as it works in.
    pub(super) unsafe fn execute(
        &self,
        handle: cudnnHandle_t,
        parts: &[(Part, Address)],
        work: Address,
    ) -> Result<()> {
        let (names, addresses): (Vec<i64>, Vec<Address>) =
            parts.iter().map(|(part, address)| (*part as i64, *address)).unzip();
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &names)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &addresses)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[work])?
            .sealed()?;
        // SAFETY: as the caller has promised.
        unsafe { pack.execute(handle, &self.sealed) }
    }
}
