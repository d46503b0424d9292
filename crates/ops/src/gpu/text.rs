/// The text of kernels, each of those whose maps are of a type `MAP` for maps of single precision and for those of bfloat16.
/// They are told apart by their names: `relu_float`, `relu_bf16`. Parts of a text are parted by empty lines.
pub fn for_each_map(text: &str) -> String {
    let of_both = |part: &str| ["float", "bf16"].map(|map| part.replace("MAP", map)).join("\n\n");
    let parts = text.split("\n\n");
    let parts = parts.map(|part| if part.contains("MAP") { of_both(part) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("\n\n")
}
