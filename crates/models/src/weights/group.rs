//! Which of a file's dictionaries is the network.

use super::bytes::{Fault, shown};
use super::graph::{Node, Value};
use super::torch::Saved;
use super::view::View;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Deeper than any trainer nests its state.
const DEPTH: usize = 16;
/// Longer than any network's names.
const NAME: usize = 512;
/// More tensors than a module has, more networks than a file.
const ENOUGH: usize = 1 << 16;

/// Tensors by name. One that cannot be read is an error only for whoever wants it.
pub(super) type Views<'f> = BTreeMap<String, Result<View<'f>, Fault>>;

/// A dictionary of tensors, somewhere in a file.
pub(super) struct Group<'f> {
    /// The keys that lead to it, joined by dots.
    pub path: String,
    pub views: Views<'f>,
}

/// All dictionaries of tensors in a file of `torch.save`, but for what belongs to optimisers. A pickled module counts
/// as the dictionary that its `state_dict()` would have given.
///
/// # Errors
/// When a file shares its objects so often that walking them would never end.
pub(super) fn all<'f>(saved: &Saved<'f>, bytes: usize) -> Result<Vec<Group<'f>>, Fault> {
    let mut walk = Walk { saved, left: 4096 + bytes };
    let (mut groups, mut seen) = (Vec::new(), BTreeSet::new());
    let mut queue = VecDeque::from([(String::new(), 0, saved.root)]);
    while let Some((path, depth, value)) = queue.pop_front() {
        let module = walk.module(value)?;
        let is_module = module.is_some();
        let mut views = Views::new();
        for (key, value) in module.unwrap_or(walk.inside(value)?) {
            if let Some(arguments) = saved.tensor(value) {
                views.insert(name(&key)?, saved.view(arguments));
            } else if let Value::Node(index) = value
                && !is_module
                && !key.starts_with("optim")
                && depth < DEPTH
                && queue.len() < ENOUGH
                && seen.insert(index)
            {
                queue.push_back((below(&path, &shown(&key)), depth + 1, value));
            }
        }
        if !views.is_empty() && groups.len() < ENOUGH {
            groups.push(Group { path, views });
        }
    }
    Ok(groups)
}

/// A weight's name, if it can be one.
pub(super) fn name(key: &str) -> Result<String, Fault> {
    if key.len() > NAME || key.contains(char::is_control) {
        return Err(Fault::broken(None, format!("{} cannot be the name of a weight", shown(key))));
    }
    Ok(key.to_owned())
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Names and what they stand for. Most names still lie in the file.
type Named<'f> = Vec<(Cow<'f, str>, Value<'f>)>;

/// A walk through shared objects, which a file of a few bytes could make endless.
struct Walk<'a, 'f> {
    saved: &'a Saved<'f>,
    left: usize,
}

impl<'f> Walk<'_, 'f> {
    /// What a dictionary, an object or a sequence holds.
    fn inside(&mut self, value: Value<'f>) -> Result<Named<'f>, Fault> {
        let graph = &self.saved.graph;
        let items: Vec<_> = match graph.node(value) {
            Some(Node::Sequence(items)) => (0..).map(Value::Int).zip(items.iter().copied()).collect(),
            _ => graph.entries(value),
        };
        let left = self.left.checked_sub(items.len() + 1);
        self.left =
            left.ok_or_else(|| Fault::broken(None, "a pickle that holds the same objects over and over"))?;
        let name = |key| match key {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Int(number) => Some(Cow::Owned(number.to_string())),
            _ => None,
        };
        Ok(items.into_iter().filter_map(|(key, value)| Some((name(key)?, value))).collect())
    }

    /// The tensors of a pickled `torch.nn.Module`, if `value` is one.
    fn module(&mut self, value: Value<'f>) -> Result<Option<Named<'f>>, Fault> {
        let (mut tensors, mut queue) = (Vec::new(), VecDeque::from([(String::new(), value)]));
        let mut is_module = false;
        while let Some((path, value)) = queue.pop_front() {
            let parts: BTreeMap<_, _> = self.inside(value)?.into_iter().collect();
            let parts = ["_parameters", "_buffers", "_modules"].map(|part| parts.get(part).copied());
            let [Some(parameters), Some(buffers), Some(modules)] = parts else { continue };
            is_module = true;
            for (name, value) in self.inside(parameters)?.into_iter().chain(self.inside(buffers)?) {
                tensors.push((Cow::Owned(below(&path, &name)), value));
            }
            for (name, value) in self.inside(modules)? {
                queue.push_back((below(&path, &name), value));
            }
            if tensors.len() + queue.len() > ENOUGH || path.len() > NAME {
                return Err(Fault::broken(None, "a pickled module larger than any network"));
            }
        }
        Ok(is_module.then_some(tensors))
    }
}

/// The group that `key` leads to; without a key, the one that is far larger than all others. A key may go on into
/// the names, up to a dot: `model.module.student` is what begins with `module.student.` in the group `model`.
///
/// # Errors
/// Lists the groups, where none or more than one can be meant.
pub(super) fn choose<'f>(mut groups: Vec<Group<'f>>, key: Option<&str>) -> Result<Group<'f>, Fault> {
    groups.sort_by_key(|group| std::cmp::Reverse(group.views.len()));
    let line = |group: &Group<'_>| match group.path.as_str() {
        "" => format!("the file itself ({})", group.views.len()),
        path => format!("{path} ({})", group.views.len()),
    };
    let listed = groups.iter().take(12).map(line).collect::<Vec<_>>().join(", ");
    if let Some(key) = key {
        let chosen = groups.into_iter().find_map(|group| descend(group, key));
        return chosen.ok_or_else(|| {
            Fault::unusable(
                format!(
                    "no tensors under {}; there are, with their numbers of tensors: {listed}",
                    shown(key)
                ),
                "name one of them behind the path and two colons, as in `teacher.pth::model`",
            )
        });
    }
    if let [largest, second, ..] = &groups[..]
        && 2 * second.views.len() > largest.views.len()
    {
        return Err(Fault::unusable(
            format!("it holds several networks, with their numbers of tensors: {listed}"),
            "name one of them behind the path and two colons, as in `teacher.pth::model`",
        ));
    }
    groups
        .into_iter()
        .next()
        .ok_or_else(|| Fault::unusable("it holds no tensors", "give a file with a network's weights"))
}

/// What of a group `key` means, if anything.
fn descend<'f>(group: Group<'f>, key: &str) -> Option<Group<'f>> {
    let Group { path, views } = group;
    let rest = if path.is_empty() { Some(key) } else { key.strip_prefix(&*path)?.strip_prefix('.') };
    let Some(rest) = rest else { return (path == key).then_some(Group { path, views }) };
    let inner =
        |(name, view): (String, _)| Some((name.strip_prefix(rest)?.strip_prefix('.')?.to_owned(), view));
    let views: Views<'_> = views.into_iter().filter_map(inner).collect();
    (!views.is_empty()).then(|| Group { path: key.to_owned(), views })
}
