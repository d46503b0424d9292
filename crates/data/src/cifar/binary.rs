use super::push_planes;
use crate::Images;
use crate::content::Content;
use crate::manifest::Manifest;
use sokd_core::Result;

/// Appends the records of one file of the binary release: one label (CIFAR-10) or a coarse and a fine one
/// (CIFAR-100), then 1024 bytes each of red, green and blue.
///
/// # Errors
/// A file that does not hold `expected` records, or a label that has no class. The format has no header, so the
/// length is the only sign of a torn file.
pub(super) fn read(
    content: &Content,
    expected: Option<usize>,
    manifest: &Manifest,
    images: &mut Images,
) -> Result<()> {
    let classes = manifest.classes.len();
    let labels = if classes == 100 { 2 } else { 1 };
    let record = labels + images.stride();
    let (whole, left) = (content.bytes.len() / record, content.bytes.len() % record);
    if left != 0 {
        let problem = format!("ends inside record {whole}: {left} bytes of {record}");
        return Err(content.wrong((whole * record) as u64, problem));
    }
    if let Some(expected) = expected.filter(|&expected| expected != whole) {
        let problem = format!("holds {whole} records of {record} bytes where the release has {expected}");
        return Err(content.wrong(content.bytes.len() as u64, problem));
    }
    images.pixels.reserve(whole * images.stride());
    for (index, record) in content.bytes.chunks_exact(record).enumerate() {
        let (before, planes) = record.split_at(labels);
        let label = before[labels - 1];
        if usize::from(label) >= classes {
            let offset = (index * record.len() + labels - 1) as u64;
            let problem =
                format!("label {label} in record {index}: {} has {classes} classes", manifest.title);
            return Err(content.wrong(offset, problem));
        }
        push_planes(images, planes, label.into());
    }
    Ok(())
}
