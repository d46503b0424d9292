//! What stands in a graph for each operation of ours. Maps are channels-first there, `(batch, channels, height, width)`.

use super::super::Normalise;
use super::graph::Graph;
use super::message::{float, int, ints};
use crate::Result;
use candle::Tensor;
use sokd_models::Traced;
use sokd_ops::{Conv, Normed, Operation, Pool, Step};

/// Writes all that a network did.
///
/// # Errors
/// What copying weights raises.
pub fn write(graph: &mut Graph<'_>, normalise: Normalise) -> Result<()> {
    let traced: &Traced = graph.traced;
    for step in &traced.steps {
        let reads: Vec<String> = step.reads.iter().map(|&map| graph.map(map)).collect();
        let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
        let name = one(graph, step, &reads, normalise)?;
        graph.call(step.gives, name);
    }
    Ok(())
}

/// Writes a step, and answers by what name its map goes.
fn one(graph: &mut Graph<'_>, step: &Step, reads: &[&str], normalise: Normalise) -> Result<String> {
    let x = reads[0];
    Ok(match &step.operation {
        Operation::Conv { kernel, bias, conv } => convolution(graph, x, kernel, bias.as_ref(), *conv)?,
        Operation::ConvNorm { kernel, conv, norm, relu } => {
            let y = convolution(graph, x, kernel, None, *conv)?;
            normalisation(graph, &y, norm, reads.get(1).copied(), *relu)?
        }
        Operation::Norm { norm, relu } => normalisation(graph, x, norm, reads.get(1).copied(), *relu)?,
        Operation::Normalize { .. } if normalise == Normalise::Outside => x.to_owned(),
        Operation::Normalize { mean, std } => {
            let [mean, std] = [("pixels.mean", mean), ("pixels.std", std)]
                .map(|(name, values)| graph.floats(name, &[1, 3, 1, 1], values));
            let centred = graph.node("Sub", "pixels.centred", &[x, &mean], []);
            graph.node("Div", "pixels", &[&centred, &std], [])
        }
        Operation::Relu => graph.node("Relu", "relu", &[x], []),
        Operation::Add => graph.node("Add", "add", reads, []),
        Operation::Unit => unit(graph, x),
        Operation::Concat => graph.node("Concat", "concat", reads, [int("axis", 1)]),
        Operation::Range(range) => {
            let bounds = [("starts", range.start), ("ends", range.end), ("axes", 1)];
            let [starts, ends, axes] =
                bounds.map(|(part, at)| graph.wholes(&format!("channels.{part}"), &[at as i64]));
            graph.node("Slice", "channels", &[x, &starts, &ends, &axes], [])
        }
        Operation::Pad([before, behind]) => {
            let pads = [0, *before as i64, 0, 0, 0, *behind as i64, 0, 0];
            let pads = graph.wholes("pad.pads", &pads);
            graph.node("Pad", "pad", &[x, &pads], [])
        }
        Operation::Order(order) => {
            let order: Vec<i64> = order.iter().map(|&channel| i64::from(channel)).collect();
            let order = graph.wholes("shuffle.order", &order);
            graph.node("Gather", "shuffle", &[x, &order], [int("axis", 1)])
        }
        Operation::MaxPool(pool) => graph.node("MaxPool", "max_pool", &[x], window(*pool)),
        Operation::AvgPool { pool, count_include_pad } => {
            let counted = int("count_include_pad", usize::from(*count_include_pad));
            graph.node("AveragePool", "avg_pool", &[x], window(*pool).into_iter().chain([counted]))
        }
        Operation::GlobalAvgPool => {
            let pooled = graph.node("GlobalAveragePool", "global_pool", &[x], []);
            graph.node("Flatten", "features", &[&pooled], [])
        }
        Operation::Linear { weight, bias } => {
            let layer = graph.layer(weight, "linear");
            let reads = beside(graph, x, &layer, &[("weight", Some(weight)), ("bias", bias.as_ref())])?;
            graph.node("Gemm", &layer, &reads, [int("transB", 1)])
        }
    })
}

/// What a layer reads: a map, and its weights behind it.
fn beside(
    graph: &mut Graph<'_>,
    x: &str,
    layer: &str,
    parts: &[(&str, Option<&Tensor>)],
) -> Result<Vec<String>> {
    let mut reads = vec![x.to_owned()];
    for (part, weight) in parts {
        if let Some(weight) = weight {
            reads.push(graph.weight(weight, layer, part)?);
        }
    }
    Ok(reads)
}

fn convolution(
    graph: &mut Graph<'_>,
    x: &str,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    conv: Conv,
) -> Result<String> {
    let layer = graph.layer(kernel, "conv");
    let reads = beside(graph, x, &layer, &[("weight", Some(kernel)), ("bias", bias)])?;
    let attributes = [
        ints("kernel_shape", &kernel.dims()[..2]),
        ints("strides", &conv.stride),
        ints("pads", &conv.padding.repeat(2)),
        ints("dilations", &conv.dilation),
        int("group", conv.groups),
    ];
    Ok(graph.node("Conv", &layer, &reads, attributes))
}

/// `relu?(norm(x) + residual?)`
fn normalisation(
    graph: &mut Graph<'_>,
    x: &str,
    norm: &Normed,
    residual: Option<&str>,
    relu: bool,
) -> Result<String> {
    let layer = graph.layer(&norm.weight, "norm");
    let Normed { weight, bias, mean, var, .. } = norm;
    let parts = [("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", var)];
    let reads = beside(graph, x, &layer, &parts.map(|(part, weight)| (part, Some(weight))))?;
    let mut y = graph.node("BatchNormalization", &layer, &reads, [float("epsilon", norm.eps as f32)]);
    if let Some(residual) = residual {
        y = graph.node("Add", "add", &[&y, residual], []);
    }
    Ok(if relu { graph.node("Relu", "relu", &[&y], []) } else { y })
}

/// Each place of a map over its length, as `sokd_ops::unit` has it.
fn unit(graph: &mut Graph<'_>, x: &str) -> String {
    let length = graph.node("ReduceL2", "length", &[x], [ints("axes", &[1])]);
    let least = graph.floats("length.least", &[], &[1e-12]);
    let length = graph.node("Max", "length", &[&length, &least], []);
    graph.node("Div", "unit", &[x, &length], [])
}

fn window(pool: Pool) -> [crate::protobuf::Message; 4] {
    [
        ints("kernel_shape", &pool.kernel),
        ints("strides", &pool.stride),
        ints("pads", &pool.padding.repeat(2)),
        int("ceil_mode", usize::from(pool.ceil)),
    ]
}
