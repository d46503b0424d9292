use crate::content::Content;
use crate::shelf::Shelf;
use crate::{Images, Locations, Memory, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, Result};
use std::path::PathBuf;

/// Grey images in IDX files, as MNIST and its family come, plain or packed: `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`. Grey becomes three equal channels.
///
/// # Source
/// Y. `LeCun`, C. Cortes and C. Burges, "The MNIST database of handwritten digits": the format is described at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Idx {
    /// Its folder, as it is or below one that `SOKD_DATA_DIR` names.
    pub path: PathBuf,
    /// The classes' names, by label; without them, classes are called by their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Black is added around images up to this height and width, as for networks built for 32 x 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad: Option<usize>,
    /// Training images held out for policies and for choosing, each class in proportion.
    pub search: usize,
    /// At most so many images of each class to learn from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Decides which images `search` and `limit` take.
    pub seed: u64,
}

const LAYOUT: &str = "name a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte \
                      and t10k-labels-idx1-ubyte, plain or .gz";

impl Source for Idx {
    fn read(&self, locations: &Locations) -> Result<Memory> {
        if self.path.as_os_str().is_empty() {
            return Err(Error::setting("path", LAYOUT));
        }
        let name = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy();
        let remedy = format!("fetch it again (`sokd data fetch {name}` where that knows it); {LAYOUT}");
        let folder = locations.resolve(&self.path, "a folder of IDX files", &remedy)?;
        let mut shelf = Shelf::folder(&folder, &remedy)?;
        let train = self.part(&mut shelf, "train")?;
        let test = self.part(&mut shelf, "t10k")?;
        let classes = if self.classes.is_empty() {
            (0..=train.labels.iter().copied().max().unwrap_or(0)).map(|label| label.to_string()).collect()
        } else {
            self.classes.clone()
        };
        let pixels = train.statistics();
        Memory::new(&name, classes, pixels, train, test)?.hold_out(self.search, self.limit, self.seed)
    }
}

impl Idx {
    fn part(&self, shelf: &mut Shelf, part: &str) -> Result<Images> {
        // Some copies of the family write a dot where the original has a dash.
        let mut take = |kind: &str| {
            let dotted = format!("{part}-{}", kind.replacen('-', ".", 1));
            let name = if shelf.has(&dotted) { dotted } else { format!("{part}-{kind}") };
            shelf.take(&name)
        };
        let (pictures, labels) = (take("images-idx3-ubyte")?, take("labels-idx1-ubyte")?);
        let ([count, height, width], grey) = read(&pictures)?;
        let ([labelled], labels_read) = read(&labels)?;
        if labelled != count {
            return Err(labels.wrong(4, format!("{labelled} labels, but {count} images lie beside them")));
        }
        if let Some(row) = labels_read
            .iter()
            .position(|&label| !self.classes.is_empty() && usize::from(label) >= self.classes.len())
        {
            let problem = format!("label {} among {} classes", labels_read[row], self.classes.len());
            return Err(labels.wrong(8 + row as u64, problem));
        }
        let size = [self.side(height)?, self.side(width)?];
        let mut images = Images::of_size(size);
        images.pixels.reserve(count.saturating_mul(images.stride()));
        images.labels = labels_read.iter().copied().map(u32::from).collect();
        let (top, left) = ((size[0] - height) / 2, (size[1] - width) / 2);
        for picture in grey.chunks_exact((height * width).max(1)) {
            for row in 0..size[0] {
                for column in 0..size[1] {
                    let inside = (top..top + height).contains(&row) && (left..left + width).contains(&column);
                    let value = if inside { picture[(row - top) * width + column - left] } else { 0 };
                    images.pixels.extend_from_slice(&[value; 3]);
                }
            }
        }
        Ok(images)
    }

    fn side(&self, side: usize) -> Result<usize> {
        match self.pad {
            Some(pad) if pad < side => {
                Err(Error::setting("pad", format!("{pad} is less than the images' {side} pixels")))
            }
            pad => Ok(pad.unwrap_or(side)),
        }
    }
}

/// The axes and the bytes of an IDX file of unsigned bytes: two zeros, the kind (8), the number of axes, each axis
/// in four bytes of big end first, the data.
fn read<const AXES: usize>(content: &Content) -> Result<([usize; AXES], &[u8])> {
    let mut cursor = content.cursor();
    let magic: [u8; 4] = cursor.array("the magic number")?;
    if magic != [0, 0, 8, AXES as u8] {
        let problem = format!(
            "starts with {magic:02x?}; IDX of unsigned bytes in {AXES} axes starts with [00, 00, 08, {AXES:02x}]"
        );
        return Err(content.wrong(0, problem));
    }
    let mut axes = [0; AXES];
    for axis in &mut axes {
        *axis = u32::from_be_bytes(cursor.array("an axis")?) as usize;
    }
    let expected = axes.iter().try_fold(1usize, |size, &axis| size.checked_mul(axis));
    let Some(expected) = expected.filter(|&expected| expected > 0) else {
        return Err(content.wrong(4, format!("axes {axes:?} hold nothing")));
    };
    if cursor.left() > expected {
        let problem =
            format!("{} bytes follow the data that axes {axes:?} tell of", cursor.left() - expected);
        return Err(content.wrong((4 + 4 * AXES + expected) as u64, problem));
    }
    Ok((axes, cursor.take(expected, "data")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn file(axes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, axes.len() as u8];
        bytes.extend(axes.iter().flat_map(|axis| axis.to_be_bytes()));
        bytes.extend_from_slice(data);
        bytes
    }

    fn folder(images: &[u8], labels: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for part in ["train", "t10k"] {
            std::fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), images).unwrap();
            std::fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
        }
        dir
    }

    fn open(dir: &Path, pad: Option<usize>) -> Result<Memory> {
        Idx { path: dir.to_owned(), pad, ..Idx::default() }.read(&Locations::default())
    }

    #[test]
    fn rows_stay_rows_and_padding_goes_around() {
        use sokd_core::{Dataset, Split};
        let dir = folder(&file(&[2, 1, 2], &[10, 20, 30, 40]), &file(&[2], &[0, 2]));
        let data = open(dir.path(), None).unwrap();
        assert_eq!((data.info().size, data.info().classes.len()), ([1, 2], 3));
        assert_eq!(data.image(Split::Test, 1).unwrap(), [30, 30, 30, 40, 40, 40]);
        let padded = open(dir.path(), Some(4)).unwrap();
        assert_eq!(padded.info().size, [4, 4]);
        let grey: Vec<u8> = padded.image(Split::Train, 0).unwrap().iter().copied().step_by(3).collect();
        assert_eq!(grey, [0, 0, 0, 0, 0, 10, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(open(dir.path(), Some(1)).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (images, labels) = (file(&[2, 1, 2], &[10, 20, 30, 40]), file(&[2], &[0, 2]));
        let said = |images: &[u8], labels: &[u8]| {
            open(folder(images, labels).path(), None).err().unwrap().to_string()
        };
        assert!(said(&labels, &labels).contains("at byte 0: starts with [00, 00, 08, 01]"));
        assert!(
            said(&images[..19], &labels)
                .contains("at byte 16: ends where 4 bytes of data should stand: 3 are left")
        );
        assert!(said(&[&images[..], &[0]].concat(), &labels).contains("at byte 20: 1 bytes follow"));
        assert!(said(&images, &file(&[3], &[0, 1, 2])).contains("3 labels, but 2 images"));
        assert!(said(&file(&[u32::MAX; 3], &[]), &labels).contains("train-images-idx3-ubyte"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), axes in 0u8..5) {
            let framed = [&[0, 0, 8, axes][..], &bytes].concat();
            for bytes in [bytes, framed] {
                let content = Content::new(Path::new("x"), bytes, "");
                let _ = (read::<1>(&content), read::<3>(&content));
            }
        }
    }
}
