use candle::Result;
use sokd_core::file;
use std::fs;
use std::path::Path;

/// What someone makes of a text. Where it was made once and kept in this machine's cache, and is whole, `read` has it of what was kept; else,
/// or if that is no use any more, `make` makes it, and tells how it is kept, if it is. `kind`: how the file ends; `from`: who makes it, and
/// of what.
pub(super) fn kept<T>(
    cache: Option<&Path>,
    kind: &str,
    from: [&str; 2],
    read: impl FnOnce(&str) -> Option<T>,
    make: impl FnOnce() -> Result<(T, Option<String>)>,
) -> Result<T> {
    let digest = |[one, other]: [&str; 2]| blake3::hash([one, "\n", other].concat().as_bytes()).to_hex();
    let name = digest(from);
    let path = cache.map(|cache| cache.join("sokd/kernels").join(format!("{}.{kind}", &name[..16])));
    if let Some(kept) = path.as_deref().and_then(|path| fs::read_to_string(path).ok())
        && let Some((mark, text)) = kept.split_once('\n')
        && mark.strip_prefix("// ").is_some_and(|mark| mark == digest([&name, text]).as_str())
        && let Some(kept) = read(text)
    {
        return Ok(kept);
    }
    let (made, text) = make()?;
    if let (Some(path), Some(text)) = (path, text) {
        // Without a place to keep it, it is made again next time.
        let _ = path.parent().map(fs::create_dir_all);
        let _ = file::write(&path, format!("// {}\n{text}", digest([&name, &text])).as_bytes());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(cache: Option<&Path>, from: [&str; 2], text: &str) -> Result<String> {
        let read = |kept: &str| Some(kept.to_owned());
        kept(cache, "ptx", from, read, || Ok((text.to_owned(), Some(text.to_owned()))))
    }

    #[test]
    fn what_is_of_no_use_any_more_is_replaced_and_some_is_not_kept() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let of = |text: &str, read: fn(&str) -> Option<usize>, keep: bool| {
            let make = || Ok((text.len(), keep.then(|| text.to_owned())));
            kept(Some(cache.path()), "plan", ["cuDNN", "task"], read, make)
        };
        let (useful, useless) = (|text: &str| Some(text.len()), |_: &str| None);
        assert_eq!(of("unkept", useful, false)?, 6);
        assert_eq!(of("one", useful, true)?, 3, "nothing was kept");
        assert_eq!(of("third", useful, true)?, 3);
        assert_eq!(of("third", useless, true)?, 5);
        assert_eq!(of("fourth", useful, true)?, 5, "it was replaced");
        Ok(())
    }

    #[test]
    fn what_was_made_is_kept_while_it_is_whole() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let of = |from: [&str; 2], text: &str| made(Some(cache.path()), from, text);
        assert_eq!(of(["NVRTC 13.0", "kernel"], "first")?, "first");
        assert_eq!(of(["NVRTC 13.0", "kernel"], "second")?, "first", "it was kept");
        assert_eq!(of(["NVRTC 13.1", "kernel"], "second")?, "second", "another compiler");
        assert_eq!(of(["NVRTC 13.0", "other"], "third")?, "third", "another text");

        let path = fs::read_dir(cache.path().join("sokd/kernels"))?.next().expect("a file")?.path();
        let all = fs::read_dir(path.parent().expect("a folder"))?.count();
        assert_eq!(all, 3);
        for torn in ["", "// \n", "first"] {
            for file in fs::read_dir(path.parent().expect("a folder"))? {
                fs::write(file?.path(), torn)?;
            }
            assert_eq!(of(["NVRTC 13.0", "kernel"], "fourth")?, "fourth", "{torn:?}");
            assert_eq!(of(["NVRTC 13.0", "kernel"], "fifth")?, "fourth", "mended");
        }
        Ok(())
    }

    #[test]
    fn without_a_place_it_is_made_each_time() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        for cache in [None, Some(file.path())] {
            for text in ["first", "second"] {
                assert_eq!(made(cache, ["NVRTC 13.0", "kernel"], text)?, text);
            }
        }
        Ok(())
    }
}
