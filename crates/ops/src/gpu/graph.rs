//! A CUDA graph: what a stream was told while it was captured.

use candle::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle::{CudaDevice, Error};
use sokd_core::Result;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use sys::CUgraphInstantiate_flags as Flags;
use sys::CUgraphNodeType as Kind;
use sys::CUstreamCaptureMode as Watch;

/// One that can be launched, over and over.
pub(crate) struct Graph(CudaGraph);

impl Graph {
    pub(crate) fn launch(&self) -> Result<()> {
        Ok(self.0.launch().map_err(Error::wrap)?)
    }
}

/// Captures what `work` tells a device's stream, and looks through it.
pub(crate) fn capture(device: &CudaDevice, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
    let stream = device.cuda_stream();
    // Meanwhile this thread goes on by the stream of the tokens, where it takes memory: a stricter mode forbids that.
    stream.begin_capture(Watch::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(Error::wrap)?;
    let done = work();
    // Memory that could not be given back says so here, where it is heard: else the next call would fail by it, which ends the capture.
    let given_back = stream.context().check_err();
    let ended = stream.end_capture(Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    done?;
    let graph = ended.map_err(Error::wrap)?.ok_or_else(|| Error::Msg("nothing was captured".into()))?;
    given_back.map_err(Error::wrap)?;
    let kept = kept(&graph)?;
    if kept != 0 {
        // Who holds that memory gives it back one day, which is an error before it is there.
        graph.launch().map_err(Error::wrap)?;
        return Err(Error::Msg(format!("{kept} pieces of memory are kept that it has taken")).into());
    }
    Ok(Graph(graph))
}

/// How many more pieces of the GPU's memory a graph takes than it gives back. It may not read this machine's, which has other things in
/// it by then.
fn kept(graph: &CudaGraph) -> candle::Result<i32> {
    let mut kept = 0;
    for node in nodes(graph)? {
        let mut kind = Kind::CU_GRAPH_NODE_TYPE_EMPTY;
        // SAFETY: a node of a graph that lives; it writes a number.
        unsafe { sys::cuGraphNodeGetType(node, &raw mut kind) }.result().map_err(Error::wrap)?;
        match kind {
            Kind::CU_GRAPH_NODE_TYPE_KERNEL
            | Kind::CU_GRAPH_NODE_TYPE_MEMSET
            | Kind::CU_GRAPH_NODE_TYPE_EMPTY => {}
            Kind::CU_GRAPH_NODE_TYPE_MEM_ALLOC => kept += 1,
            Kind::CU_GRAPH_NODE_TYPE_MEM_FREE => kept -= 1,
            Kind::CU_GRAPH_NODE_TYPE_MEMCPY => {
                let mut copy = MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
                // SAFETY: the node is a copy, by its type; the driver writes what it knows of it.
                let told = unsafe { sys::cuGraphMemcpyNodeGetParams(node, copy.as_mut_ptr()) };
                told.result().map_err(Error::wrap)?;
                // SAFETY: it was written just now.
                let copy = unsafe { copy.assume_init() };
                let host = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
                if copy.srcMemoryType == host || copy.dstMemoryType == host {
                    candle::bail!("it copies from or to this machine's memory");
                }
            }
            other => candle::bail!("it asks for {other:?}"),
        }
    }
    Ok(kept)
}

fn nodes(graph: &CudaGraph) -> candle::Result<Vec<sys::CUgraphNode>> {
    let mut count = 0;
    // SAFETY: without room for nodes, it writes how many there are.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), null_mut(), &raw mut count) }
        .result()
        .map_err(Error::wrap)?;
    let mut nodes = vec![null_mut(); count];
    // SAFETY: there is room for as many.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), nodes.as_mut_ptr(), &raw mut count) }
        .result()
        .map_err(Error::wrap)?;
    nodes.truncate(count);
    Ok(nodes)
}
