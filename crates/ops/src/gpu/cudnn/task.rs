//! What cuDNN is asked to do at once, as a graph of its operations.

use super::descriptor::Descriptor;
use super::plan::Planner;
use crate::kernels::geometry::Geometry;
use candle::cuda_backend::cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
    cudnnConvolutionMode_t as Mode, cudnnDataType_t as Type, cudnnPointwiseMode_t as Pointwise,
};
use candle::{DType, Result};

/// A convolution's passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pass {
    Forward,
    /// Forward, and through a norm at rest: `relu?((y - mean) · rsqrt(var + eps) · weight + bias + residual?)`.
    AtRest {
        residual: bool,
        relu: bool,
    },
    /// Back to the gradient of the map; and, `onto` what others had of it, to the sum.
    ToMap {
        onto: bool,
    },
    /// Back to the gradient of the kernel.
    ToKernel,
}

/// A pass over maps of some type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Task {
    pub(super) pass: Pass,
    pub(super) geometry: Geometry,
    pub(super) map: DType,
    /// Whether factors of single precision may be rounded to ten bits.
    pub(super) tf32: bool,
    /// Bytes of which all addresses are multiples.
    pub(super) alignment: usize,
}

/// What a task reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub(super) enum Part {
    X = 1,
    Y,
    Kernel,
    Mean,
    Var,
    Eps,
    Weight,
    Bias,
    Residual,
    /// What others had of the map's gradient.
    Onto,
}

/// Names of what exists between operations alone begin here.
const BETWEEN: i64 = 100;

/// Sizes and steps as cuDNN orders them (images, channels, rows, columns), of numbers that lie channels last.
fn channels_last([count, channels, rows, columns]: [usize; 4]) -> [[i64; 4]; 2] {
    let steps = [rows * columns * channels, 1, columns * channels, channels];
    [[count, channels, rows, columns], steps].map(|all| all.map(|one| one as i64))
}

impl Pass {
    /// Whether there is no other way to do it than by one plan.
    pub(super) fn is_needed(self) -> bool {
        !matches!(self, Self::AtRest { .. } | Self::ToMap { onto: true })
    }
}

impl Task {
    /// More than that no kernel asks for.
    pub(super) const ALIGNMENT: u64 = 16;

    /// The type of its maps and kernel.
    fn of_maps(&self) -> Type {
        if self.map == DType::BF16 { Type::CUDNN_DATA_BFLOAT16 } else { Type::CUDNN_DATA_FLOAT }
    }

    fn tensor(&self, name: i64, sizes: [usize; 4], of: Type) -> Result<Descriptor> {
        let [sizes, steps] = channels_last(sizes);
        // Maps in bfloat16 may lie between where numbers of single precision may.
        let width = if of == Type::CUDNN_DATA_FLOAT { size_of::<f32>() } else { size_of::<u16>() };
        let alignment = self.alignment.max(width) as i64;
        Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[name])?
            .with(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[of])?
            .with(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &sizes)?
            .with(Name::CUDNN_ATTR_TENSOR_STRIDES, &steps)?
            .with(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[alignment])
    }

    /// What exists between two operations.
    fn between(&self, name: i64, sizes: [usize; 4]) -> Result<Descriptor> {
        let tensor = self.tensor(name, sizes, Type::CUDNN_DATA_FLOAT)?;
        tensor.with(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[true])?.sealed()
    }

    fn part(&self, part: Part) -> Result<Descriptor> {
        let Geometry { batch, input, output, kernel, from, to, .. } = self.geometry;
        let (sizes, of) = match part {
            Part::X | Part::Onto => ([batch, from, input[0], input[1]], self.of_maps()),
            Part::Y | Part::Residual => ([batch, to, output[0], output[1]], self.of_maps()),
            Part::Kernel => ([to, self.geometry.group_from(), kernel[0], kernel[1]], self.of_maps()),
            Part::Mean | Part::Var | Part::Weight | Part::Bias => ([1, to, 1, 1], Type::CUDNN_DATA_FLOAT),
            Part::Eps => ([1; 4], Type::CUDNN_DATA_FLOAT),
        };
        let tensor = self.tensor(part as i64, sizes, of)?;
        let here = part == Part::Eps;
        tensor.with(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, &[here])?.sealed()
    }

    /// How the window moves; what it sees is added up in single precision.
    fn conv(&self) -> Result<Descriptor> {
        let conv = self.geometry.conv;
        let [stride, padding, dilation] =
            [conv.stride, conv.padding, conv.dilation].map(|pair| pair.map(|one| one as i64));
        Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[Type::CUDNN_DATA_FLOAT])?
            .with(Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE, &[Mode::CUDNN_CROSS_CORRELATION])?
            .with(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2i64])?
            .with(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &stride)?
            .with(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &padding)?
            .with(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &padding)?
            .with(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &dilation)?
            .sealed()
    }

    pub(super) fn graph(&self, planner: &Planner) -> Result<Descriptor> {
        let operations = match self.pass {
            Pass::AtRest { residual, relu } => self.at_rest(residual, relu)?,
            Pass::ToMap { onto: true } => self.sum_of_map()?,
            _ => vec![self.convolution(&self.part(Part::X)?, &self.part(Part::Y)?)?],
        };
        let operations: Vec<_> = operations.iter().collect();
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .of(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operations)?;
        planner.told(graph, Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, None)?.sealed()
    }

    /// The convolution of this pass.
    fn convolution(&self, x: &Descriptor, y: &Descriptor) -> Result<Descriptor> {
        use Kind as K;
        use Name as N;
        let (kind, [alpha, beta, conv, of_x, kernel, of_y]) = match self.pass {
            Pass::Forward | Pass::AtRest { .. } => (
                K::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                [
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                ],
            ),
            Pass::ToMap { .. } => (
                K::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                [
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                ],
            ),
            Pass::ToKernel => (
                K::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                [
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                    N::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                ],
            ),
        };
        Descriptor::new(kind)?
            .with(alpha, &[1f32])?
            .with(beta, &[0f32])?
            .of(conv, &[&self.conv()?])?
            .of(of_x, &[x])?
            .of(kernel, &[&self.part(Part::Kernel)?])?
            .of(of_y, &[y])?
            .sealed()
    }

    /// The way back and the sum.
    fn sum_of_map(&self) -> Result<Vec<Descriptor>> {
        let Geometry { batch, input, from, .. } = self.geometry;
        let own = self.between(BETWEEN, [batch, from, input[0], input[1]])?;
        let back = self.convolution(&own, &self.part(Part::Y)?)?;
        let (before, sum) = (self.part(Part::Onto)?, self.part(Part::X)?);
        let add = pointwise(Pointwise::CUDNN_POINTWISE_ADD, &own, Some(&before), &sum)?;
        Ok(vec![back, add])
    }

    /// The convolution and what follows it, of which only the end has a place.
    fn at_rest(&self, residual: bool, relu: bool) -> Result<Vec<Descriptor>> {
        let Geometry { batch, output, to, .. } = self.geometry;
        let mut named = BETWEEN;
        let mut between = |sizes: [usize; 4]| {
            named += 1;
            self.between(named, sizes)
        };
        let (channels, map) = ([1, to, 1, 1], [batch, to, output[0], output[1]]);
        let [varied, inverse] = [between(channels)?, between(channels)?];
        let mut now = between(map)?;
        let mut operations = vec![
            self.convolution(&self.part(Part::X)?, &now)?,
            pointwise(
                Pointwise::CUDNN_POINTWISE_ADD,
                &self.part(Part::Var)?,
                Some(&self.part(Part::Eps)?),
                &varied,
            )?,
            pointwise(Pointwise::CUDNN_POINTWISE_RSQRT, &varied, None, &inverse)?,
        ];
        let mut steps = vec![
            (Pointwise::CUDNN_POINTWISE_SUB, Some(self.part(Part::Mean)?)),
            (Pointwise::CUDNN_POINTWISE_MUL, Some(inverse)),
            (Pointwise::CUDNN_POINTWISE_MUL, Some(self.part(Part::Weight)?)),
            (Pointwise::CUDNN_POINTWISE_ADD, Some(self.part(Part::Bias)?)),
        ];
        if residual {
            steps.push((Pointwise::CUDNN_POINTWISE_ADD, Some(self.part(Part::Residual)?)));
        }
        if relu {
            steps.push((Pointwise::CUDNN_POINTWISE_RELU_FWD, None));
        }
        let last = steps.len() - 1;
        for (at, (mode, with)) in steps.into_iter().enumerate() {
            let next = if at == last { self.part(Part::Y)? } else { between(map)? };
            operations.push(pointwise(mode, &now, with.as_ref(), &next)?);
            now = next;
        }
        Ok(operations)
    }
}

/// `y = mode(x, with?)`, number by number.
fn pointwise(
    mode: Pointwise,
    x: &Descriptor,
    with: Option<&Descriptor>,
    y: &Descriptor,
) -> Result<Descriptor> {
    let how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?
        .with(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[Type::CUDNN_DATA_FLOAT])?
        .sealed()?;
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
        .of(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[&how])?
        .of(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &[x])?
        .of(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[y])?;
    match with {
        Some(with) => operation.of(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &[with])?,
        None => operation,
    }
    .sealed()
}
