use crate::Images;
use crate::content::Content;
use sokd_core::{Error, Result};
use std::num::NonZero;
use std::thread::ScopedJoinHandle;

/// A decoded picture.
pub(crate) struct Picture {
    /// Height and width.
    pub size: [usize; 2],
    /// `(height, width, 3)`.
    pub pixels: Vec<u8>,
}

/// Pixels' bytes in one of the file: deflate packs no tighter, and JPEG no picture that is one. What claims more lies, and
/// shall not be given the memory.
pub(crate) const TIGHTEST: u64 = 1100;

/// Bytes that any picture may take: of two colours, one of which it has, it packs tighter still.
const ALWAYS: u64 = 1 << 20;

/// The picture that a PNG or JPEG holds; grey becomes three equal channels, transparency is dropped.
pub(crate) fn picture(content: &Content) -> Result<Picture> {
    let reader = image::ImageReader::new(std::io::Cursor::new(&content.bytes)).with_guessed_format();
    let mut reader = reader.map_err(Error::io(&content.path))?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some((TIGHTEST * content.bytes.len() as u64).max(ALWAYS));
    reader.limits(limits);
    let decoded = reader.decode();
    let decoded =
        decoded.map_err(|error| content.wrong(None, format!("cannot be decoded: {error}")))?.to_rgb8();
    let size = [decoded.height() as usize, decoded.width() as usize];
    Ok(Picture { size, pixels: decoded.into_raw() })
}

/// The same, of a known size.
pub(crate) fn picture_of(content: &Content, size: [usize; 2]) -> Result<Vec<u8>> {
    let found = picture(content)?;
    if found.size != size {
        let [[height, width], [tall, wide]] = [found.size, size];
        let problem = format!("is {height} x {width} pixels where others are {tall} x {wide}");
        return Err(content.wrong(None, problem));
    }
    Ok(found.pixels)
}

/// How many threads can really run at a time.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Images decoded at a time: enough to keep all cores busy, few enough not to hold everything twice.
const AT_A_TIME: usize = 2048;

/// Appends the pixels of each item in order, on all cores; fails with the first item that does.
pub(crate) fn fill<T: Sync>(
    images: &mut Images,
    items: &[T],
    pixels: impl Fn(&T) -> Result<Vec<u8>> + Sync,
) -> Result<()> {
    for some in items.chunks(AT_A_TIME) {
        images.pixels.extend_from_slice(&in_order(some, &pixels)?);
    }
    Ok(())
}

/// The pixels of each item in order, made on all cores; fails with the first item that does.
pub(crate) fn in_order<T: Sync>(
    items: &[T],
    pixels: impl Fn(&T) -> Result<Vec<u8>> + Sync,
) -> Result<Vec<u8>> {
    let made: Result<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let make = |share| {
            let pixels = &pixels;
            scope.spawn(move || <[T]>::iter(share).map(pixels).collect::<Result<Vec<_>>>())
        };
        let workers: Vec<_> = items.chunks(items.len().div_ceil(cores()).max(1)).map(make).collect();
        let joined = |worker: ScopedJoinHandle<'_, Result<Vec<Vec<u8>>>>| {
            let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.map(|pictures| pictures.concat())
        };
        workers.into_iter().map(joined).collect()
    });
    Ok(made?.concat())
}
