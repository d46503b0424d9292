use crate::Images;
use crate::content::Content;
use crate::decode::{fill, picture_of};
use crate::manifest::Manifest;
use crate::pages::Pages;
use crate::shelf::Shelf;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::Type;
use serde_json::Value;
use sokd_core::{Error, Result, contained};
use std::path::Path;

/// What the Hub calls the column of pictures.
const PICTURES: [&str; 2] = ["img", "image"];
/// What the Hub calls the column of labels; CIFAR-100 has a coarse one beside it.
const LABELS: [&str; 2] = ["fine_label", "label"];

/// Appends the rows of one parquet file as the Hub writes them: PNG in a column of `struct{bytes, path}`, labels in
/// another. Columns are found by name, never by place or type.
///
/// # Errors
/// A file that is torn, or holds something else; a label beyond `classes`.
pub(crate) fn read(
    shelf: &Shelf,
    name: &str,
    (manifest, classes): (&Manifest, usize),
    images: &mut Images,
) -> Result<()> {
    let path = shelf.on_disk(name).map_or_else(|| shelf.place.join(name), Path::to_owned);
    let remedy = manifest.remedy();
    // The library checks some lengths of a broken file by assertions only.
    let rows = contained(|| rows(&path, &remedy)).unwrap_or_else(|| {
        Err(Error::file(&path, None, "cannot be read as parquet: its lengths contradict each other", &remedy))
    })?;
    for (_, label) in &rows {
        match u32::try_from(*label) {
            Ok(label) if (label as usize) < classes => images.labels.push(label),
            _ => {
                let problem = format!("label {label}: {} has {classes} classes", manifest.title);
                return Err(Error::file(&path, None, problem, &remedy));
            }
        }
    }
    let size = images.size;
    fill(images, &rows, |(png, _)| picture_of(png, size))
}

/// What the Hub calls the classes, by label: it notes them beside the schema.
///
/// # Errors
/// A file that is torn, or does not say.
pub(crate) fn classes(shelf: &Shelf, name: &str, remedy: &str) -> Result<Vec<String>> {
    let path = shelf.on_disk(name).map_or_else(|| shelf.place.join(name), Path::to_owned);
    let wrong = |problem: &str| Error::file(&path, None, problem, remedy);
    let note = contained(|| note(&path)).ok_or_else(|| wrong("cannot be read as parquet"))??;
    let names = note.and_then(|note| {
        let features = serde_json::from_str::<Value>(&note).ok()?.pointer("/info/features")?.clone();
        let label = LABELS.iter().find_map(|name| features.get(name))?;
        serde_json::from_value(label.get("names")?.clone()).ok()
    });
    names.ok_or_else(|| wrong("it does not say what its classes are called"))
}

/// What the Hub's libraries note of the columns, as JSON.
fn note(path: &Path) -> Result<Option<String>> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let Ok(reader) = SerializedFileReader::new(Pages(file)) else { return Ok(None) };
    let notes = reader.metadata().file_metadata().key_value_metadata();
    Ok(notes.into_iter().flatten().find(|note| note.key == "huggingface").and_then(|note| note.value.clone()))
}

/// The pictures, still as PNG, and their labels.
fn rows(path: &Path, remedy: &str) -> Result<Vec<(Content, i64)>> {
    let wrong = |problem: String| Error::file(path, None, problem, remedy);
    let broken = |error: ParquetError| wrong(format!("cannot be read as parquet: {error}"));
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let reader = SerializedFileReader::new(Pages(file)).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema();
    let column = |names: &[&str]| {
        let found =
            names.iter().find_map(|name| schema.get_fields().iter().find(|field| field.name() == *name));
        let there: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
        found
            .cloned()
            .ok_or_else(|| wrong(format!("no column {} among {}", names.join(" or "), there.join(", "))))
    };
    let fields = vec![column(&PICTURES)?, column(&LABELS)?];
    let only = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(broken)?;
    let mut rows = Vec::new();
    for (index, row) in reader.get_row_iter(Some(only)).map_err(broken)?.enumerate() {
        let Some((png, label)) = picture_and_label(&row.map_err(broken)?) else {
            return Err(wrong(format!("row {index} is no struct of bytes beside a number")));
        };
        rows.push((Content::new(&path.join(format!("row {index}")), png, remedy), label));
    }
    Ok(rows)
}

fn picture_and_label(row: &Row) -> Option<(Vec<u8>, i64)> {
    let (mut png, mut label) = (None, None);
    for (_, field) in row.get_column_iter() {
        match field {
            Field::Group(inside) => {
                png = inside.get_column_iter().find_map(|(name, field)| match field {
                    Field::Bytes(bytes) if name == "bytes" => Some(bytes.data().to_vec()),
                    _ => None,
                });
            }
            Field::Long(value) => label = Some(*value),
            Field::Int(value) => label = Some(i64::from(*value)),
            _ => return None,
        }
    }
    png.zip(label)
}
