//! What a pickle describes: values that may share and even contain one another.

/// A value. Text and bytes still lie in the file; whatever holds other values is a node of the [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'f> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'f str),
    /// Byte strings, text that is not UTF-8, and integers of more than 64 bits (little-endian).
    Bytes(&'f [u8]),
    Node(usize),
}

/// What holds other values.
#[derive(Debug)]
pub(super) enum Node<'f> {
    /// A tuple, a list or a set.
    Sequence(Vec<Value<'f>>),
    /// In the order of insertion; of entries with the same key the last counts.
    Dict(Vec<(Value<'f>, Value<'f>)>),
    /// Module and name of a class or function.
    Class(&'f str, &'f str),
    /// What lies outside the pickle.
    Persistent(Value<'f>),
    /// What the pickle would have had Python call. It is written down, not done.
    Call(Box<Call<'f>>),
}

/// A call that was not made, and what was to happen to its result.
#[derive(Debug)]
pub(super) struct Call<'f> {
    pub class: Value<'f>,
    pub arguments: Value<'f>,
    pub state: Value<'f>,
    pub entries: Vec<(Value<'f>, Value<'f>)>,
}

/// An arena. Indices instead of pointers: no depth or cycle that a file invents can overflow our stack, neither
/// when it is walked nor when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Graph<'f> {
    pub nodes: Vec<Node<'f>>,
}

impl<'f> Graph<'f> {
    pub fn node(&self, value: Value<'f>) -> Option<&Node<'f>> {
        match value {
            Value::Node(index) => self.nodes.get(index),
            _ => None,
        }
    }

    pub fn sequence(&self, value: Value<'f>) -> Option<&[Value<'f>]> {
        match self.node(value)? {
            Node::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub fn class(&self, value: Value<'f>) -> Option<(&'f str, &'f str)> {
        match self.node(value)? {
            Node::Class(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// The call behind a value: its class, and its arguments.
    pub fn call(&self, value: Value<'f>) -> Option<((&'f str, &'f str), &[Value<'f>])> {
        match self.node(value)? {
            Node::Call(call) => Some((self.class(call.class)?, self.sequence(call.arguments)?)),
            _ => None,
        }
    }

    /// What a mapping maps. Objects count too: subclasses of `dict`, such as `OrderedDict`, and instances of classes
    /// unknown here, by their attributes.
    pub fn entries(&self, value: Value<'f>) -> Vec<(Value<'f>, Value<'f>)> {
        let call = match self.node(value) {
            Some(Node::Dict(entries)) => return entries.clone(),
            Some(Node::Call(call)) => call,
            _ => return Vec::new(),
        };
        let mut all = Vec::new();
        // `OrderedDict([[key, value], …])`, as Python 2 wrote it.
        let pairs = self.sequence(call.arguments).and_then(|arguments| self.sequence(*arguments.first()?));
        for &pair in pairs.unwrap_or_default() {
            if let Some(&[key, value]) = self.sequence(pair) {
                all.push((key, value));
            }
        }
        all.extend(&call.entries);
        // An OrderedDict's attributes (PyTorch's `_metadata`) are not its entries.
        if self.class(call.class) != Some(("collections", "OrderedDict"))
            && let Some(Node::Dict(attributes)) = self.node(call.state)
        {
            all.extend(attributes);
        }
        all
    }
}
