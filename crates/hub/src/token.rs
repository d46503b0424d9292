use std::fmt;
use std::path::PathBuf;

/// What proves to the Hub who asks. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// A token, unless there is nothing in it.
    pub fn new(text: &str) -> Option<Self> {
        Some(text.trim()).filter(|text| !text.is_empty()).map(|text| Self(text.to_owned()))
    }

    /// As Python's library finds it: `HF_TOKEN`, else the file that `HF_TOKEN_PATH` names, else `token` in `HF_HOME`.
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` forbids to send any.
    pub fn from_env() -> Option<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| super::hub::is_true(&value)) {
            return None;
        }
        let file = || set("HF_TOKEN_PATH").map_or_else(|| hf_hub::hf_home().join("token"), PathBuf::from);
        set("HF_TOKEN")
            .and_then(|token| Self::new(&token))
            .or_else(|| Self::new(&std::fs::read_to_string(file()).ok()?))
    }

    /// The token itself, for whoever sends it.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new(" hf_secret\n").expect("a token");
        assert_eq!(token.secret(), "hf_secret");
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(Token::new(" \n"), None);
    }
}
