use super::message::{self, Length};
use crate::Result;
use crate::protobuf::Message;
use candle::{Tensor, TensorId};
use sokd_models::Traced;
use sokd_nn::to_torch;
use std::collections::{HashMap, HashSet};

/// A graph in the making: nodes in the order in which they run, and the constants that they read.
pub struct Graph<'t> {
    /// What is written down.
    pub traced: &'t Traced,
    nodes: Vec<Node>,
    constants: Vec<Message>,
    /// By what name each map goes.
    maps: HashMap<TensorId, String>,
    /// By what name each weight that is written already goes.
    weights: HashMap<TensorId, String>,
    taken: HashSet<String>,
}

/// An operation of ONNX, which gives one value: the one that it is named after.
struct Node {
    kind: &'static str,
    name: String,
    reads: Vec<String>,
    attributes: Vec<Message>,
}

const IMAGES: &str = "images";
const LOGITS: &str = "logits";

impl<'t> Graph<'t> {
    /// A graph that has its images, and no node.
    pub fn new(traced: &'t Traced) -> Self {
        Self {
            traced,
            nodes: Vec::new(),
            constants: Vec::new(),
            maps: HashMap::from([(traced.images, IMAGES.to_owned())]),
            weights: HashMap::new(),
            taken: [IMAGES, LOGITS].map(str::to_owned).into(),
        }
    }

    /// The name of a map that a step has given.
    pub fn map(&self, map: TensorId) -> String {
        // A trace has no step that reads what no step gave.
        self.maps.get(&map).cloned().unwrap_or_default()
    }

    /// Calls a map by the name of what was made of it.
    pub fn call(&mut self, map: TensorId, name: String) {
        self.maps.insert(map, name);
    }

    /// Adds a node, and answers by what name its value goes.
    pub fn node(
        &mut self,
        kind: &'static str,
        name: &str,
        reads: &[impl AsRef<str>],
        attributes: impl IntoIterator<Item = Message>,
    ) -> String {
        let name = self.free(name);
        let reads = reads.iter().map(|name| name.as_ref().to_owned()).collect();
        self.nodes.push(Node {
            kind,
            name: name.clone(),
            reads,
            attributes: attributes.into_iter().collect(),
        });
        name
    }

    /// What the layer of a weight is called; `otherwise` where the weight was computed from others.
    pub fn layer(&self, weight: &Tensor, otherwise: &str) -> String {
        let name = self.traced.name(weight).and_then(|name| name.strip_suffix(".weight"));
        name.unwrap_or(otherwise).to_owned()
    }

    /// A weight in PyTorch's layout, by its own name or, where it was computed from others, as a part of `layer`.
    ///
    /// # Errors
    /// What copying raises.
    pub fn weight(&mut self, weight: &Tensor, layer: &str, part: &str) -> Result<String> {
        if let Some(name) = self.weights.get(&weight.id()) {
            return Ok(name.clone());
        }
        let own = self.traced.name(weight).map_or_else(|| format!("{layer}.{part}"), str::to_owned);
        let values = to_torch(weight)?;
        let numbers = values.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        let name = self.floats(&own, values.dims(), &numbers.map_err(sokd_core::Error::from)?);
        self.weights.insert(weight.id(), name.clone());
        Ok(name)
    }

    /// A constant of floats.
    pub fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let name = self.free(name);
        self.constants.push(message::floats(&name, dims, values));
        name
    }

    /// A constant of whole numbers.
    pub fn wholes(&mut self, name: &str, values: &[i64]) -> String {
        let name = self.free(name);
        self.constants.push(message::wholes(&name, values));
        name
    }

    /// The name, or the first of those with a number behind it that is free.
    fn free(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !self.taken.contains(name));
        let free = free.unwrap_or_default();
        self.taken.insert(free.clone());
        free
    }

    /// All of it: `GraphProto`.
    pub fn message(self, name: &str, takes: &str) -> Message {
        let [height, width] = self.traced.size;
        let batch = Length::Any("batch");
        let images = [batch, Length::Fixed(3), Length::Fixed(height), Length::Fixed(width)];
        let logits = [batch, Length::Fixed(self.traced.info.classes)];
        let scores = self.map(self.traced.logits);
        let graph = self.nodes.into_iter().fold(Message::default(), |graph, node| {
            let public = |value: &str| if value == scores { LOGITS.to_owned() } else { value.to_owned() };
            let reads = node.reads.iter().fold(Message::default(), |node, read| node.text(1, public(read)));
            let message = reads.text(2, public(&node.name)).text(3, &node.name).text(4, node.kind);
            let message = node.attributes.into_iter().fold(message, |node, one| node.message(5, one));
            graph.message(1, message)
        });
        let graph = self.constants.into_iter().fold(graph.text(2, name), |graph, one| graph.message(5, one));
        graph
            .message(11, message::value(IMAGES, &images, takes))
            .message(12, message::value(LOGITS, &logits, "a score a class, before any softmax"))
    }
}
