use crate::Result;
use miette::MietteHandlerOpts;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::path::Path;
use textwrap::{WordSeparator, WordSplitter};

/// A line, or several, on the standard output. A reader who has seen enough (`sokd list | head`) is no error.
pub fn print(text: impl AsRef<str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(sokd_core::Error::io(Path::new("standard output"))(error).into())
        }
        _ => Ok(()),
    }
}

/// A value as JSON on the standard output.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| sokd_core::Error::setting("--json", error.to_string()))?;
    print(text)
}

/// An error and its remedy on the standard error. A closed one is no reason to break off.
pub fn complain(error: crate::Error) {
    // Lines end at spaces only, so that a path can be copied. A hook that is set already is this one.
    miette::set_hook(Box::new(|_| {
        let options = MietteHandlerOpts::new().break_words(false).word_splitter(WordSplitter::NoHyphenation);
        Box::new(options.word_separator(WordSeparator::AsciiSpace).build())
    }))
    .ok();
    writeln!(std::io::stderr(), "{:?}", miette::Report::new(error)).ok();
}
