use sokd_core::{Error, Result};
use sokd_train::Observer;
use std::sync::{Arc, Mutex};

/// Who writes down how steps of phases go on, as a device is told at one word.
#[derive(Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    /// *captured*, or why not, each time that it was tried.
    ///
    /// # Panics
    /// Where another thread has, which held it.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.0.lock().expect("no test panics here").clone()
    }
}

impl Observer for Diary {
    fn captured(&mut self, _: &str, outcome: std::result::Result<(), &Error>) -> Result<()> {
        let said = outcome.map_or_else(ToString::to_string, |()| "captured".to_owned());
        self.0.lock().expect("no test panics here").push(said);
        Ok(())
    }
}
