//! The two containers that `torch.save` has written: a zip archive since 2020, before that a row of pickles.

use super::bytes::{Bytes, Fault, shown};
use super::graph::{Graph, Node, Value};
use super::pickle;
use super::view::{Scalar, View};
use std::collections::BTreeMap;
use std::io::Cursor;
use zip::{CompressionMethod, ZipArchive};

/// Tensors of more axes than this are not weights.
const AXES: usize = 16;

/// How `torch.save` writes tensors, and parameters around them.
const TENSORS: [(&str, &str); 3] = [
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
];
const PARAMETERS: [(&str, &str); 2] =
    [("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state")];
/// Python's own containers.
const CONTAINERS: [(&str, &str); 4] = [
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("__builtin__", "set"),
    ("builtins", "set"),
];

/// What a file holds: the objects, and the numbers of their tensors, by the name of the storage.
pub(super) struct Saved<'f> {
    pub graph: Graph<'f>,
    pub root: Value<'f>,
    storages: BTreeMap<String, &'f [u8]>,
}

/// A zip archive: `NAME/data.pkl`, and a storage in each `NAME/data/KEY`.
pub(super) fn zip(bytes: &[u8]) -> Result<Saved<'_>, Fault> {
    let broken =
        |error: zip::result::ZipError| Fault::broken(None, format!("a damaged zip archive: {error}"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let start = entry.data_start().unwrap_or(u64::MAX);
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            let problem = format!(
                "{} in the zip archive is compressed or encrypted, as torch.save never does",
                shown(&name)
            );
            return Err(Fault::unusable(problem, "unpack it with unzip and pack it again with `zip -0 -r`"));
        }
        let inside = start.checked_add(entry.size()).filter(|&end| end <= bytes.len() as u64);
        let end = inside
            .ok_or_else(|| Fault::broken(start, format!("{} reaches beyond the file", shown(&name))))?;
        entries.insert(name, (start, &bytes[start as usize..end as usize]));
    }
    let pickles: Vec<_> = entries.keys().filter(|name| name.rsplit('/').next() == Some("data.pkl")).collect();
    let [name] = pickles[..] else {
        let problem =
            format!("a zip archive with {} files named data.pkl, where torch.save writes one", pickles.len());
        return Err(Fault::unusable(
            problem,
            "if it is an archive of checkpoints, unpack it and name one of them",
        ));
    };
    let folder = name.trim_end_matches("data.pkl").to_owned();
    if entries.get(&format!("{folder}byteorder")).is_some_and(|(_, order)| *order == b"big") {
        return Err(big_endian());
    }
    let (start, pickle) = entries[name];
    let (graph, root) = pickle::read(&mut Bytes::new(pickle, start))?;
    let data = format!("{folder}data/");
    let storage =
        |(name, (_, bytes)): (String, (u64, _))| Some((name.strip_prefix(&data)?.to_owned(), bytes));
    Ok(Saved { graph, root, storages: entries.into_iter().filter_map(storage).collect() })
}

fn big_endian() -> Fault {
    Fault::unusable("its numbers are big-endian", "load and save it with PyTorch on a little-endian machine")
}

/// What the magic number of a legacy file looks like in a pickle: an integer of ten bytes.
pub(super) const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// A row: magic number, protocol, the writer's machine, the object, the storages' keys, then each storage as a count
/// of its numbers and the numbers.
pub(super) fn legacy(bytes: &[u8]) -> Result<Saved<'_>, Fault> {
    let mut file = Bytes::new(bytes, 0);
    let (_, magic) = pickle::read(&mut file)?;
    let (_, protocol) = pickle::read(&mut file)?;
    if magic != Value::Bytes(&MAGIC) || protocol != Value::Int(1001) {
        return Err(Fault::unusable(
            "a pickle, but not one that torch.save wrote",
            "load it in Python and save the state dict with torch.save or as safetensors",
        ));
    }
    let (machine, facts) = pickle::read(&mut file)?;
    if machine.entries(facts).contains(&(Value::Text("little_endian"), Value::Bool(false))) {
        return Err(big_endian());
    }
    let (graph, root) = pickle::read(&mut file)?;
    let mut scalars = BTreeMap::new();
    for node in &graph.nodes {
        if let Node::Persistent(name) = node
            && let Some(storage) = Storage::named(&graph, *name)
            && let Some(scalar) = storage.scalar
        {
            scalars.insert(storage.key, scalar);
        }
    }
    let (keys_graph, keys) = pickle::read(&mut file)?;
    let mut storages = BTreeMap::new();
    for &key in keys_graph.sequence(keys).unwrap_or_default() {
        let key = as_key(key).ok_or_else(|| file.broken("a storage without a name"))?;
        let Some(scalar) = scalars.get(&key) else {
            return Err(file
                .broken(format!("storage {} belongs to no tensor, so its length is unknown", shown(&key))));
        };
        let count = u64::from_le_bytes(file.array()?);
        let length = count.saturating_mul(scalar.bytes() as u64);
        storages.insert(key, file.take(length)?);
    }
    Ok(Saved { graph, root, storages })
}

fn as_key(value: Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a pickle says of a storage that lies outside it. Where it lived (`cuda:0`) is of no interest.
struct Storage<'f> {
    /// `None`: bytes of a type that the tensor names, or a type unknown here.
    scalar: Option<Scalar>,
    key: String,
    /// Legacy files only: the first number and the count, in the storage.
    window: Option<(Value<'f>, Value<'f>)>,
}

impl<'f> Storage<'f> {
    /// `("storage", FloatStorage, key, location, count[, (view key, offset, count)])`.
    fn named(graph: &Graph<'f>, name: Value<'f>) -> Option<Self> {
        let &[Value::Text("storage"), class, key, _, _, ref rest @ ..] = graph.sequence(name)? else {
            return None;
        };
        let window = match graph.sequence(*rest.first().unwrap_or(&Value::None)) {
            Some(&[_, first, count]) => Some((first, count)),
            _ => None,
        };
        let (_, class) = graph.class(class)?;
        Some(Self { scalar: scalar(class), key: as_key(key)?, window })
    }
}

/// By the name of a storage's class, or of a `torch.dtype`.
fn scalar(name: &str) -> Option<Scalar> {
    Some(match name {
        "DoubleStorage" | "float64" => Scalar::F64,
        "FloatStorage" | "float32" => Scalar::F32,
        "HalfStorage" | "float16" => Scalar::F16,
        "BFloat16Storage" | "bfloat16" => Scalar::Bf16,
        "LongStorage" | "int64" => Scalar::I64,
        "IntStorage" | "int32" => Scalar::I32,
        "ShortStorage" | "int16" => Scalar::I16,
        "CharStorage" | "int8" => Scalar::I8,
        "ByteStorage" | "uint8" => Scalar::U8,
        "BoolStorage" | "bool" => Scalar::Bool,
        _ => return None,
    })
}

impl<'f> Saved<'f> {
    /// The arguments of a tensor's rebuilding, if `value` is a tensor: `(storage, offset, shape, strides, …)`.
    pub fn tensor(&self, mut value: Value<'f>) -> Option<&[Value<'f>]> {
        // A parameter wraps a tensor; nothing wraps more often than that.
        for _ in 0..2 {
            let (class, arguments) = self.graph.call(value)?;
            value = match arguments {
                _ if TENSORS.contains(&class) => return Some(arguments),
                [data, ..] if PARAMETERS.contains(&class) => *data,
                _ => return None,
            };
        }
        None
    }

    /// The classes and functions that were to be called, but for those understood here.
    pub fn foreign(&self) -> impl Iterator<Item = (&'f str, &'f str)> {
        let called = self.graph.nodes.iter().filter_map(|node| match node {
            Node::Call(call) => self.graph.class(call.class),
            _ => None,
        });
        called.filter(|class| {
            !TENSORS.contains(class) && !PARAMETERS.contains(class) && !CONTAINERS.contains(class)
        })
    }

    /// The view that such arguments describe.
    ///
    /// # Errors
    /// Where they are not what `torch.save` writes, and where the storage is missing.
    pub fn view(&self, arguments: &[Value<'f>]) -> Result<View<'f>, Fault> {
        self.parts(arguments)
            .unwrap_or_else(|| Err(Fault::broken(None, "a tensor whose description makes no sense")))
    }

    fn parts(&self, arguments: &[Value<'f>]) -> Option<Result<View<'f>, Fault>> {
        let &[storage, offset, shape, strides, ref rest @ ..] = arguments else { return None };
        let Some(Node::Persistent(name)) = self.graph.node(storage) else { return None };
        let named = Storage::named(&self.graph, *name)?;
        let of_tensor =
            rest.get(2).and_then(|&class| self.graph.class(class)).and_then(|(_, name)| scalar(name));
        let Some(scalar) = of_tensor.or(named.scalar) else {
            return Some(Err(Fault::unknown_type()));
        };
        let Some(mut bytes) = self.storages.get(&named.key).copied() else {
            return Some(Err(Fault::broken(None, format!("storage {} is missing", shown(&named.key)))));
        };
        if let Some((first, count)) = named.window {
            let [first, count] = [size(first)?, size(count)?].map(|size| size.checked_mul(scalar.bytes()));
            bytes = bytes.get(first?..first?.checked_add(count?)?)?;
        }
        let sizes = |value| -> Option<Vec<usize>> {
            self.graph.sequence(value)?.iter().take(AXES + 1).map(|&axis| size(axis)).collect()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        if shape.len() != strides.len() || shape.len() > AXES {
            return None;
        }
        Some(Ok(View { scalar, storage: bytes, offset: size(offset)?, shape, strides }))
    }
}

fn size(value: Value<'_>) -> Option<usize> {
    match value {
        Value::Int(size) => usize::try_from(size).ok(),
        _ => None,
    }
}
