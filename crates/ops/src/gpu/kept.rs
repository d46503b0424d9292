use candle::Result;
use sokd_core::file;
use std::fs;
use std::path::Path;

/// What someone makes of a text: what was made once and kept in this machine's cache, while that is whole; else what `make` makes,
/// which is kept where that can be done. `kind`: how its file ends; `from`: who makes it, and of what.
pub(super) fn kept(
    cache: Option<&Path>,
    kind: &str,
    from: [&str; 2],
    make: impl FnOnce() -> Result<String>,
) -> Result<String> {
    let digest = |[one, other]: [&str; 2]| blake3::hash([one, "\n", other].concat().as_bytes()).to_hex();
    let name = digest(from);
    let path = cache.map(|cache| cache.join("sokd/kernels").join(format!("{}.{kind}", &name[..16])));
    if let Some(kept) = path.as_deref().and_then(|path| fs::read_to_string(path).ok())
        && let Some((mark, text)) = kept.split_once('\n')
        && mark.strip_prefix("// ").is_some_and(|mark| mark == digest([&name, text]).as_str())
    {
        return Ok(text.to_owned());
    }
    let text = make()?;
    if let Some(path) = path {
        // Without a place to keep it, it is made again next time.
        let _ = path.parent().map(fs::create_dir_all);
        let _ = file::write(&path, format!("// {}\n{text}", digest([&name, &text])).as_bytes());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_kept_while_it_is_whole() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let of = |from: [&str; 2], text: &str| kept(Some(cache.path()), "ptx", from, || Ok(text.to_owned()));
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
                assert_eq!(kept(cache, "ptx", ["NVRTC 13.0", "kernel"], || Ok(text.to_owned()))?, text);
            }
        }
        Ok(())
    }
}
