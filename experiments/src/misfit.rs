//! A setting that does not fit, underlined where it was written.

use crate::overlay::{Document, Place, Setting};
use crate::{Error, Result};
use serde::de::DeserializeOwned;

/// A setting that does not fit: what is wrong, where it was written, what would fit.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Misfit {
    /// What is wrong, with the path to the setting.
    pub message: String,
    /// Where it was written.
    pub place: Option<Place>,
    /// What would fit.
    pub help: Option<String>,
}

impl Misfit {
    /// Something wrong, somewhere.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, help: None }
    }

    /// Written there.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Mended so.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl miette::Diagnostic for Misfit {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.place.as_ref().map(|place| place as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        Some(Box::new(std::iter::once(miette::LabeledSpan::new_with_span(None, place.span.clone()))))
    }
}

impl miette::SourceCode for Place {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let inner = self.document.text.read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.document.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}

/// The settings as a `T`.
///
/// # Errors
/// [`Error::Misfit`] with the place of the setting that does not fit.
pub fn typed<T: DeserializeOwned>(settings: &Setting) -> Result<T> {
    serde_path_to_error::deserialize(settings.plain()).map_err(|error| {
        let outer = error.path().to_string();
        let inner = error.inner().message().trim_end();
        let (path, message) = match sokd_core::misfit(inner) {
            Some((below, message)) if outer == "." => (below, message),
            Some((below, message)) => (format!("{outer}.{below}"), message),
            None if outer == "." => (String::new(), inner),
            None => (outer, inner),
        };
        misfit(settings, &path, message)
    })
}

/// A table as TOML has it inside a line, on the command line.
///
/// # Errors
/// What does not fit, and what would.
pub fn inline<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    #[derive(serde::Deserialize)]
    struct Line<T> {
        it: T,
    }
    let document = Document::new("command line", format!("it = {text}"));
    let settings = Setting::read(&document).map_err(|error| error.to_string())?;
    typed::<Line<T>>(&settings).map(|line| line.it).map_err(|error| match error {
        Error::Misfit(misfit) => {
            let Misfit { message, help, .. } = *misfit;
            // Whoever typed it has never heard of the name that it goes by here.
            let message = ["it.", "it: "].iter().find_map(|it| message.strip_prefix(it)).unwrap_or(&message);
            help.map_or(message.to_owned(), |help| format!("{message}: {help}"))
        }
        error => error.to_string(),
    })
}

/// An error about the setting at `path`.
pub fn misfit(settings: &Setting, path: &str, message: &str) -> Error {
    let setting = settings.nearest(path);
    let by_name = ["unknown field", "missing field"].iter().any(|start| message.starts_with(start));
    let place = if by_name { setting.name.clone() } else { setting.at.clone() };
    let text = if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") };
    let mut misfit = Misfit::new(text).at(place);
    misfit.help = suggestion(message);
    misfit.into()
}

/// "did you mean", from a message of serde's kind: a wrong name in backticks, then those that would do.
fn suggestion(message: &str) -> Option<String> {
    let (problem, offer) = message.split_once("expected")?;
    let wrong = quoted(problem).next()?;
    closest(wrong, quoted(offer)).map(|name| format!("did you mean `{name}`?"))
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The name most like `wrong`, if one is alike enough to be meant: at most two letters in five are other ones or in
/// another place. Of equals, the one that begins alike.
pub fn closest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let alike = |name: &'a str| {
        let lower = name.to_lowercase();
        (strsim::normalized_damerau_levenshtein(&wrong, &lower), strsim::jaro_winkler(&wrong, &lower), name)
    };
    let best = names.into_iter().map(alike).max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)))?;
    (best.0 >= 0.6).then_some(best.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::Document;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Lesson {
        #[allow(dead_code)]
        rate: Rate,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Rate {
        #[allow(dead_code)]
        base: f64,
        #[allow(dead_code)]
        milestones: Vec<u32>,
    }

    fn wrong(text: &str) -> Misfit {
        let settings = Setting::read(&Document::new("test", text)).expect("TOML of the test");
        match typed::<Lesson>(&settings) {
            Err(Error::Misfit(misfit)) => *misfit,
            other => panic!("{other:?}"),
        }
    }

    fn underlined(misfit: &Misfit) -> &str {
        let place = misfit.place.as_ref().expect("a place");
        &place.document.text[place.span.clone()]
    }

    #[test]
    fn a_misspelt_name_is_underlined_and_mended() {
        let misfit = wrong("[rate]\nbase = 1.0\nmilestone = [1]\n");
        assert_eq!(underlined(&misfit), "milestone");
        assert_eq!(misfit.help.as_deref(), Some("did you mean `milestones`?"));
        assert!(misfit.message.starts_with("rate.milestone: unknown field `milestone`"), "{misfit}");
    }

    #[test]
    fn a_wrong_value_is_underlined_inside_its_list() {
        let misfit = wrong("[rate]\nbase = 1.0\nmilestones = [1, -3]\n");
        assert_eq!(underlined(&misfit), "-3");
        assert!(misfit.message.starts_with("rate.milestones[1]: "), "{misfit}");
    }

    #[test]
    fn what_is_missing_is_missed_where_it_should_be() {
        let misfit = wrong("[rate]\nbase = 1.0\n");
        assert_eq!(misfit.message, "rate: missing field `milestones`");
        assert_eq!(underlined(&misfit), "rate");
    }

    #[test]
    fn far_fetched_names_are_not_offered() {
        assert_eq!(closest("tempreature", ["temperature", "weight"]), Some("temperature"));
        assert_eq!(closest("zzz", ["temperature", "weight"]), None);
        assert_eq!(closest("resnet21", ["ResNet152", "resnet20", "resnet110"]), Some("resnet20"));
    }
}
