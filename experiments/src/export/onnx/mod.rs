//! A network's operations and weights as one graph, for whatever runs ONNX.
//!
//! Nothing here knows a network: each runs once, and what it did is written down, operation by operation.

mod graph;
mod layers;
mod message;

use super::{Export, Format, Leaving, Normalise};
use crate::Result;
use crate::protobuf::Message;
use graph::Graph;

/// `model.onnx`, of any network, with what is set into it.
pub const FORMAT: Format =
    Format { name: "onnx", about: "any network as a graph for onnxruntime and its like: model.onnx", make };

/// The version of the file's layout.
const IR: u64 = 9;
/// The version of the operations.
const OPSET: u64 = 17;

fn make(leaving: &Leaving, normalise: Normalise) -> Result<Export> {
    let [height, width] = leaving.data.size;
    let takes = match normalise {
        Normalise::Inside => "RGB in [0, 1]: the graph normalises them itself",
        Normalise::Outside => "RGB, normalised by the mean and std among the metadata",
    };
    let mut graph = Graph::new(&leaving.traced);
    layers::write(&mut graph, normalise)?;
    let graph = graph.message(&leaving.name(), takes);
    let mut notes = leaving.about();
    let place = if normalise == Normalise::Inside { "inside" } else { "outside" };
    notes.insert("normalise".to_owned(), place.to_owned());
    // Fields as `onnx.proto` numbers them in `ModelProto`.
    let model = Message::default()
        .whole(1, IR)
        .text(2, "sokd")
        .message(7, graph)
        .message(8, Message::default().text(1, "").whole(2, OPSET));
    let model = notes
        .iter()
        .fold(model, |model, (key, value)| model.message(14, Message::default().text(1, key).text(2, value)));
    let python = format!(
        "import numpy, onnxruntime\n\n\
         session = onnxruntime.InferenceSession(\"model.onnx\")\n\
         # (batch, 3, {height}, {width}), {takes}\n\
         images = numpy.zeros((1, 3, {height}, {width}), numpy.float32)\n\
         (logits,) = session.run([\"logits\"], {{\"images\": images}})\n"
    );
    Ok(Export { files: vec![("model.onnx", model.bytes())], python })
}
