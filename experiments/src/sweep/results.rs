use super::{Overview, Standing, Sweep, axis};
use crate::report::csv::Line;
use crate::{Result, Summary};

impl Sweep {
    /// One line a cell, finished or not, with a column for each setting that varies: for spreadsheets, pandas and R.
    ///
    /// # Errors
    /// A plan that is not whole, a summary that cannot be read.
    pub fn results(&self) -> Result<String> {
        let mut keys: Vec<&String> = Vec::new();
        for key in self.tasks.iter().flat_map(|task| task.varied.keys()) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut out = String::new();
        let mut head = Line::default();
        for name in ["cell", "state", "row", "column", "seed"] {
            head.text(name);
        }
        for key in &keys {
            head.text(key);
        }
        for name in
            ["last", "best_test", "best_test_epoch", "loss", "epochs", "images", "seconds", "recipe", "run"]
        {
            head.text(name);
        }
        head.end(&mut out);
        for (task, Standing { state, .. }) in self.tasks.iter().zip(Overview::of(self)?.standing) {
            let mut line = Line::default();
            line.value(task.cell).text(state.word()).text(&task.row).text(&task.column).value(task.seed);
            for key in &keys {
                line.text(&task.varied.get(*key).map_or_else(String::new, axis::said));
            }
            let summary = Summary::read(&task.job.run)?.filter(|summary| summary.recipe == task.job.digest);
            let summary = summary.as_ref();
            line.maybe(summary.map(|of| of.last.top1)).maybe(summary.map(|of| of.best.scores.top1));
            line.maybe(summary.map(|of| of.best.epoch)).maybe(summary.map(|of| of.last.loss));
            line.maybe(summary.map(|of| of.epochs.len())).maybe(summary.map(|of| of.images));
            line.maybe(summary.map(|of| of.seconds)).text(&task.job.digest);
            line.text(&task.job.run.to_string_lossy());
            line.end(&mut out);
        }
        Ok(out)
    }
}
