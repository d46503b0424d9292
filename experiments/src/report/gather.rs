use super::{Gallery, Gap, Measured, Report, duration, grouped, id};
use crate::environment::Environment;
use crate::prerequisite::Teacher;
use crate::progress::Stage;
use crate::table::{Cell, Choice, Table};
use crate::{Resolved, Result, Summary, hub, rundir};
use sokd_core::Dataset;
use sokd_data::DataSpec;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Of a run whose recipe has other settings today.
const FORMER: &str = "measured before its recipe changed";

impl Report {
    /// Everything that is known of a table at a size: its runs here, and where there is none, what is committed in
    /// `results`.
    ///
    /// # Errors
    /// A table that does not fit; a result that is there and cannot be read.
    pub fn gather(table: &Table, choice: &Choice, results: &Path) -> Result<Self> {
        let cells = table.cells(choice)?;
        let mut report = Self {
            name: table.name.clone(),
            title: table.head.title.clone(),
            note: table.head.note.clone(),
            tier: choice.tier.clone(),
            published: table.published(),
            ..Self::default()
        };
        for cell in &cells {
            for (names, name) in [(&mut report.rows, &cell.row), (&mut report.columns, &cell.column)] {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            report.find(table, cell, choice, results)?;
            let heading = table.arm(&cell.row, &cell.column);
            if !report.settings.iter().any(|(known, _)| *known == heading) {
                report.settings.push((heading, cell.resolved.toml()?));
            }
        }
        report.part_former(table, &cells);
        if let Some(first) = cells.first() {
            report.data(&first.resolved.recipe.data);
        }
        report.tell_teachers(&cells)?;
        report.tell_machines();
        let named = choice.against.as_ref();
        report.against = report.rows.iter().position(|row| Some(row) == named).unwrap_or(0);
        report.compare();
        Ok(report)
    }

    /// The report of one finished run.
    ///
    /// # Errors
    /// None that a recipe read from TOML could raise.
    pub fn single(name: &str, tier: &str, resolved: &Resolved, summary: Summary) -> Result<Self> {
        let mut report = Self {
            name: name.to_owned(),
            single: true,
            title: format!("A run of {name}"),
            tier: tier.to_owned(),
            rows: vec![name.to_owned()],
            columns: vec![String::new()],
            settings: vec![(name.to_owned(), resolved.toml()?)],
            ..Self::default()
        };
        report.data(&resolved.recipe.data);
        report.runs.push(Measured {
            row: name.to_owned(),
            column: String::new(),
            tier: tier.to_owned(),
            summary,
            answers: None,
        });
        report.tell_given(&[]);
        Ok(report)
    }

    /// A cell's run, or what is missing.
    fn find(&mut self, table: &Table, cell: &Cell, choice: &Choice, results: &Path) -> Result<()> {
        let dir = rundir::default_dir(&table.name, &cell.resolved);
        if let Some(summary) = Summary::read(&dir)? {
            self.runs.push(cell.measured(choice, summary, &dir)?);
            return Ok(());
        }
        match kept(table, cell, choice, results)? {
            Some(kept) => {
                if kept.summary.recipe != cell.resolved.id {
                    self.gap(table, cell, FORMER);
                }
                self.runs.push(kept);
            }
            None => self.gap(table, cell, "not measured yet"),
        }
        Ok(())
    }

    fn gap(&mut self, table: &Table, cell: &Cell, why: &str) {
        let of = table.arm(&cell.row, &cell.column);
        self.gaps.push(Gap { of, seed: Some(cell.seed), why: why.to_owned() });
    }

    /// Leaves out runs of a former recipe beside those of today's: a mean over both would be of neither. An arm of which
    /// there are no others keeps them.
    fn part_former(&mut self, table: &Table, cells: &[Cell]) {
        let today = |run: &Measured| {
            let own = |cell: &&Cell| {
                (&cell.row, &cell.column, cell.seed) == (&run.row, &run.column, run.summary.seed)
            };
            cells.iter().find(own).is_some_and(|cell| cell.resolved.id == run.summary.recipe)
        };
        let arm = |run: &Measured| (run.row.clone(), run.column.clone());
        let current: Vec<_> = self.runs.iter().filter(|run| today(run)).map(arm).collect();
        self.runs.retain(|run| today(run) || !current.contains(&arm(run)));
        let named: Vec<String> = current.iter().map(|(row, column)| table.arm(row, column)).collect();
        for gap in self.gaps.iter_mut().filter(|gap| gap.why == FORMER && named.contains(&gap.of)) {
            gap.why = "left out: measured before its recipe changed".into();
        }
    }

    /// The classes and some images, where the data can be opened here.
    fn data(&mut self, data: &DataSpec) {
        let Some(data) = open(data) else { return };
        let info = data.info();
        self.classes.clone_from(&info.classes);
        self.facts.push(format!(
            "Students: {} labelled images of {}; judged by {} test images.",
            grouped(info.train as u64),
            info.name,
            grouped(info.test as u64)
        ));
        self.gallery = Gallery::of(data.as_ref()).ok();
    }

    /// Who taught, in a sentence each.
    fn tell_teachers(&mut self, cells: &[Cell]) -> Result<()> {
        let mut told: Vec<&str> = Vec::new();
        for cell in cells {
            let weights = cell.resolved.recipe.teacher.as_ref().map(|teacher| teacher.weights.as_str());
            if let (Some(teacher), Some(weights)) = (&cell.teacher, weights)
                && !told.contains(&weights)
            {
                told.push(weights);
                self.tell_trained(teacher)?;
            }
        }
        self.tell_given(&told);
        Ok(())
    }

    /// Where runs took place, if that is so different that their times say nothing of one beside another.
    fn tell_machines(&mut self) {
        let place = |run: &Measured| {
            let Environment { machine, simd, device, threads, .. } = &run.summary.environment;
            let threads = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            if device == "cpu" {
                format!("{machine} ({simd}, {threads})")
            } else {
                format!("{device} of {machine}")
            }
        };
        let places: BTreeSet<String> = self.runs.iter().map(place).collect();
        if places.len() > 1 {
            let places = places.into_iter().collect::<Vec<_>>().join("; ");
            self.facts
                .push(format!("Times do not compare: the runs took place on different machines, {places}."));
        }
    }

    /// The teachers that came with weights, but for those that have told more already.
    fn tell_given(&mut self, told: &[&str]) {
        let mut lines = Vec::new();
        for taught in self.runs.iter().filter_map(|run| run.summary.teacher.as_ref()) {
            if told.contains(&taught.weights.as_str()) {
                continue;
            }
            let digest = taught
                .sha256
                .as_deref()
                .map_or(String::new(), |sha256| format!(" (SHA-256 {}…)", id(sha256)));
            let line = format!(
                "Teacher: {}, {} parameters, weights {}{digest}; top-1 {:.2} % on the test images, measured before the first step.",
                taught.network.model,
                grouped(taught.network.parameters as u64),
                taught.weights,
                taught.top1
            );
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        self.facts.extend(lines);
    }

    fn tell_trained(&mut self, teacher: &Teacher) -> Result<()> {
        let dir = rundir::default_dir(&teacher.name, &teacher.resolved);
        let Some(summary) = Summary::read(&dir)? else { return Ok(()) };
        let seen = open(&teacher.resolved.recipe.data)
            .map_or(String::new(), |data| format!("{} labelled images, ", grouped(data.info().train as u64)));
        self.facts.push(format!(
            "Teacher: {}, {} parameters, trained here by the recipe {} on {seen}{} epochs, in {}; top-1 {:.2} % on the test images.",
            summary.student.model,
            grouped(summary.student.parameters as u64),
            teacher.name,
            summary.epochs.len(),
            duration(summary.seconds),
            summary.last.top1
        ));
        self.settings.push((teacher.label.clone(), teacher.resolved.toml()?));
        Ok(())
    }
}

/// The committed result of a cell: its own, or that of another column in which it is the same run.
fn kept(table: &Table, cell: &Cell, choice: &Choice, results: &Path) -> Result<Option<Measured>> {
    let of = |column: &str| {
        Measured::read(&Measured::path(results, &table.name, &choice.tier, &cell.row, column, cell.seed))
    };
    if let Some(own) = of(&cell.column)? {
        return Ok(Some(own));
    }
    for column in table.columns() {
        if let Some(same) = of(column)?.filter(|kept| kept.summary.recipe == cell.resolved.id) {
            return Ok(Some(Measured { column: cell.column.clone(), ..same }));
        }
    }
    Ok(None)
}

fn open(data: &DataSpec) -> Option<Arc<dyn Dataset>> {
    hub::open(data, &Stage::new(true)).ok()
}
