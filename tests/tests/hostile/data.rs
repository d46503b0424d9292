use crate::{SLACK, Whole, alone, peak, survives};
use flate2::{Compression, write::GzEncoder};
use sokd_core::Result;
use sokd_data::{Cifar, Cifar10, Cifar100, Idx, ImageFolder, Locations, Memory, Source};
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> Vec<Whole> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/fixtures").join(name);
    let entries = std::fs::read_dir(folder).expect("a fixture");
    let mut files: Vec<Whole> = entries
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

fn cifar(path: PathBuf, classes: usize) -> Result<Memory> {
    let set = Cifar { path: Some(path), ..Cifar::default() };
    let nowhere = Locations::default();
    if classes == 10 { Cifar10(set).read(&nowhere) } else { Cifar100(set).read(&nowhere) }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).expect("memory takes it");
    packer.finish().expect("memory takes it")
}

#[test]
fn releases_of_cifar() {
    for classes in [10, 100] {
        for form in ["py", "hub"] {
            let name = format!("cifar{classes}-{form}");
            survives(&name, 250, &fixture(&name), |folder| cifar(folder.to_owned(), classes));
        }
    }
}

#[test]
fn archives() {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in fixture("cifar10-py") {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, format!("cifar-10-batches-py/{name}"), &bytes[..])
            .expect("memory takes it");
    }
    let bytes = archive.into_inner().expect("memory takes it");
    // Damage within the tar is behind gzip's checksum: packed anew, it is met by the reader of archives.
    let name = "cifar-10-python.tar.gz";
    survives("gzip", 250, &[(name.to_owned(), packed(&bytes))], |folder| cifar(folder.join(name), 10));
    survives("tar", 250, &[("tar".to_owned(), bytes)], |folder| {
        let inner = std::fs::read(folder.join("tar")).expect("the file");
        std::fs::write(folder.join(name), packed(&inner)).expect("room for a small file");
        cifar(folder.join(name), 10)
    });
}

#[test]
fn idx() {
    let file = |axes: &[u32], data: &[u8]| {
        let mut bytes = vec![0, 0, 8, axes.len() as u8];
        bytes.extend(axes.iter().flat_map(|axis| axis.to_be_bytes()));
        bytes.extend_from_slice(data);
        bytes
    };
    let (images, labels) = (file(&[3, 4, 5], &[7; 60]), file(&[3], &[0, 1, 2]));
    let files: Vec<Whole> = ["train", "t10k"]
        .into_iter()
        .flat_map(|part| {
            [
                (format!("{part}-images-idx3-ubyte"), images.clone()),
                (format!("{part}-labels-idx1-ubyte"), labels.clone()),
            ]
        })
        .collect();
    let read = |folder: &Path| Idx { path: folder.to_owned(), ..Idx::default() }.read(&Locations::default());
    survives("idx", 500, &files, read);
    let files: Vec<Whole> =
        files.into_iter().map(|(name, bytes)| (format!("{name}.gz"), packed(&bytes))).collect();
    survives("idx-gz", 500, &files, read);
}

#[test]
fn pictures() {
    let drawing = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([10 * x as u8, 15 * y as u8, 90]));
    for (end, format) in [("png", image::ImageFormat::Png), ("jpeg", image::ImageFormat::Jpeg)] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        drawing.write_to(&mut bytes, format).expect("memory takes it");
        let bytes = bytes.into_inner();
        let place = |class| (0..2).map(move |number| format!("{class}/{number}.{end}"));
        let files: Vec<Whole> =
            ["a", "b"].into_iter().flat_map(place).map(|name| (name, bytes.clone())).collect();
        survives(end, 500, &files, |folder| {
            ImageFolder { path: folder.to_owned(), test_share: 0.5, ..ImageFolder::default() }
                .read(&Locations::default())
        });
    }
}

/// A megabyte that unpacks to more than a gigabyte, alone and within an archive.
#[test]
fn bombs_are_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    let mut header = tar::Header::new_gnu();
    header.set_size(2 << 30);
    header.set_path("cifar-10-batches-py/data_batch_1").expect("a short name");
    header.set_cksum();
    packer.write_all(header.as_bytes()).expect("memory takes it");
    for _ in 0..1030 {
        packer.write_all(&zeros).expect("memory takes it");
    }
    let bomb = packer.finish().expect("memory takes it");
    assert!(bomb.len() < 8 << 20);
    let archive = folder.path().join("cifar-10-python.tar.gz");
    std::fs::write(&archive, &bomb).expect("room for a small file");
    for name in ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"] {
        std::fs::write(folder.path().join(name), &bomb).expect("room for a small file");
    }
    let idx = Idx { path: folder.path().to_owned(), ..Idx::default() }.read(&Locations::default());
    for error in [cifar(archive, 10).err(), idx.err()] {
        let error = error.expect("a bomb is no data set").to_string();
        assert!(error.contains("bytes or more, unpacked"), "{error}");
    }
}

/// Pictures of a few bytes that claim to be of gigapixels, or of a few million: no decoder is given the memory.
#[test]
fn claims_are_not_believed() {
    let encoded = |format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(8, 8).write_to(&mut bytes, format).expect("memory takes it");
        bytes.into_inner()
    };
    let mut png = encoded(image::ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let sum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    let mut jpeg = encoded(image::ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x07, 0, 0x07, 0]);

    let _alone = alone();
    for (end, bytes) in [("png", png), ("jpeg", jpeg)] {
        let folder = tempfile::tempdir().expect("a scratch folder");
        for class in ["a", "b"] {
            std::fs::create_dir(folder.path().join(class)).expect("room for a folder");
            for number in 0..2 {
                let path = folder.path().join(class).join(format!("{number}.{end}"));
                std::fs::write(path, &bytes).expect("room for a small file");
            }
        }
        let set = ImageFolder { path: folder.path().to_owned(), test_share: 0.5, ..ImageFolder::default() };
        let (read, most) = peak(|| set.read(&Locations::default()));
        let error = read.err().expect("no picture is that large").to_string();
        assert!(error.contains("cannot be decoded") && error.contains("limit"), "{error}");
        assert!(most < SLACK, "{end}: {most} bytes");
    }
}

/// PNG's sum of a chunk.
fn crc(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}
