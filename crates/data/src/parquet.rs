use crate::Images;
use crate::content::Content;
use crate::decode::{fill, picture_of};
use crate::manifest::Manifest;
use crate::shelf::Shelf;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::Type;
use sokd_core::{Error, Result};
use std::path::Path;

/// What the Hub calls the column of pictures.
const PICTURES: [&str; 2] = ["img", "image"];
/// What the Hub calls the column of labels; CIFAR-100 has a coarse one beside it.
const LABELS: [&str; 2] = ["fine_label", "label"];

/// Appends the rows of one parquet file as the Hub writes them: PNG in a column of `struct{bytes, path}`, labels in
/// another. Columns are found by name, never by place or type.
pub(crate) fn read(shelf: &Shelf, name: &str, manifest: &Manifest, images: &mut Images) -> Result<()> {
    let path = shelf.on_disk(name).map_or_else(|| shelf.place.join(name), Path::to_owned);
    let remedy = manifest.remedy();
    let wrong = |problem: String| Error::file(&path, None, problem, &remedy);
    let broken =
        |error: ::parquet::errors::ParquetError| wrong(format!("cannot be read as parquet: {error}"));

    let file = std::fs::File::open(&path).map_err(Error::io(&path))?;
    let reader = SerializedFileReader::new(file).map_err(broken)?;
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
        let row = row.map_err(broken)?;
        let Some((png, label)) = picture_and_label(&row) else {
            return Err(wrong(format!("row {index} is no struct of bytes beside a number")));
        };
        if !(0..manifest.classes.len() as i64).contains(&label) {
            let problem = format!(
                "label {label} in row {index}: {} has {} classes",
                manifest.title,
                manifest.classes.len()
            );
            return Err(wrong(problem));
        }
        images.labels.push(label as u32);
        rows.push(Content::new(&path.join(format!("row {index}")), png, &remedy));
    }
    let size = images.size;
    fill(images, &rows, |row| picture_of(row, size))
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
