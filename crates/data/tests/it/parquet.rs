//! Labelled pictures in parquet, as the Hub's libraries write them.

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use image::RgbImage;
use std::path::Path;
use std::sync::Arc;

pub fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A struct of bytes and path, a label, and beside the schema what the labels are called.
pub fn write(path: &Path, pictures: &str, rows: &[(Vec<u8>, i64)], names: &[&str]) {
    let schema = format!(
        "message schema {{
            optional group {pictures} {{ optional binary bytes; optional binary path (UTF8); }}
            optional int64 label;
        }}"
    );
    let note =
        serde_json::json!({ "info": { "features": { "label": { "names": names, "_type": "ClassLabel" } } } });
    let note = KeyValue::new("huggingface".to_owned(), note.to_string());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![note]))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let bytes: Vec<ByteArray> = rows.iter().map(|(png, _)| png.clone().into()).collect();
    let paths: Vec<ByteArray> = (0..rows.len()).map(|row| format!("{row}.png").as_str().into()).collect();
    let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
    let there = vec![2; rows.len()];
    for texts in [bytes, paths] {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&texts, Some(&there), None).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}
