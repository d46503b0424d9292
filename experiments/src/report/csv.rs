//! Everything that was measured, for spreadsheets, pandas and R (RFC 4180, full digits).

use super::{Arm, McNemar, P, Report, Sample, Score, commit};
use std::fmt::Display;

impl Report {
    /// One line a run.
    pub fn runs_as_csv(&self) -> String {
        let head = "table,row,column,tier,seed,data,student,last,best_test,best_test_epoch,top5,loss,ece,agreement,epochs,steps,\
                    images,seconds,processor_seconds,parameters,macs,teacher,teacher_top1,recipe,version,commit,machine,host,device,threads,simd,\
                    started";
        let mut out = format!("{head}\n");
        for run in &self.runs {
            let summary = &run.summary;
            let place = &summary.environment;
            let mut line = Line::default();
            line.text(&self.name).text(&run.row).text(&run.column).text(&run.tier).value(summary.seed);
            line.text(&summary.data).text(&summary.student.model).value(summary.last.top1);
            line.value(summary.best.scores.top1).value(summary.best.epoch).value(summary.last.top5);
            line.value(summary.last.loss).value(summary.last.ece).maybe(summary.last.agreement);
            line.value(summary.epochs.len())
                .value(summary.steps)
                .value(summary.images)
                .value(summary.seconds)
                .maybe(summary.processor_seconds);
            line.value(summary.student.parameters).value(summary.student.macs);
            let teacher = summary.teacher.as_ref();
            line.text(teacher.map_or("", |teacher| &teacher.network.model));
            line.maybe(teacher.map(|teacher| teacher.top1)).text(&summary.recipe);
            line.text(&place.version).text(&commit(place)).text(&place.machine).text(&place.host);
            line.text(&place.device).value(place.threads).text(&place.simd).text(&place.started);
            line.end(&mut out);
        }
        out
    }

    /// One line an arm: a row in a column. What McNemar's test says seed by seed stands in one field, between spaces.
    pub fn arms_as_csv(&self) -> String {
        let head = "table,row,column,tier,n,last,last_deviation,best_test,best_test_deviation,against,pairs,gain,gain_deviation,\
                    gain_low,gain_high,up,t_p,t_p_holm,wilcoxon_p,wilcoxon_p_holm,mcnemar_won,mcnemar_lost,mcnemar_p,\
                    mcnemar_p_holm,bootstrap_low,bootstrap_high,published,published_score,published_protocol,published_source,\
                    parameters,macs,images,seconds,processor_seconds";
        let mut out = format!("{head}\n");
        for column in &self.columns {
            for arm in &self.arms(column) {
                let mut line = Line::default();
                line.text(&self.name).text(&arm.row).text(column).text(&self.tier).value(arm.runs.len());
                line.sample(arm.sample(Score::Last)).sample(arm.sample(Score::Best)).text(self.base());
                self.tests_as_csv(&mut line, arm, column);
                let published = |of: &dyn Fn(&super::Published) -> String| {
                    arm.published.iter().map(|value| of(value)).collect::<Vec<_>>().join("; ")
                };
                let top1 = |value: &super::Published| {
                    value.top1.map_or("not public".to_owned(), |top1| top1.to_string())
                };
                line.text(&published(&top1)).text(&published(&|value| value.score.name().to_owned()));
                line.text(&published(&|value| value.protocol.clone()));
                line.text(&published(&|value| value.source.clone()));
                let network = arm.runs.first().map(|run| &run.summary.student);
                line.maybe(network.map(|network| network.parameters))
                    .maybe(network.map(|network| network.macs));
                line.maybe(arm.mean(|run| run.summary.images as f64))
                    .maybe(arm.mean(|run| run.summary.seconds))
                    .maybe(arm.processor_seconds());
                line.end(&mut out);
            }
        }
        out
    }

    fn tests_as_csv(&self, line: &mut Line, arm: &Arm<'_>, column: &str) {
        let Some(tests) = self.compared_in(column).find(|compared| compared.row == arm.row) else {
            for _ in 0..16 {
                line.text("");
            }
            return;
        };
        let interval = |line: &mut Line, interval: Option<[f64; 2]>| {
            line.maybe(interval.map(|[low, _]| low)).maybe(interval.map(|[_, high]| high));
        };
        line.value(tests.gain.sample.n).sample(Some(tests.gain.sample));
        interval(line, tests.gain.interval());
        line.value(tests.gain.up);
        for p in [tests.t, tests.wilcoxon] {
            line.maybe(p.map(|p| p.raw)).maybe(p.map(|p| p.holm));
        }
        let seeds = |of: fn(&McNemar, &P) -> String| {
            tests.images.iter().map(|(_, images, p)| of(images, p)).collect::<Vec<_>>().join(" ")
        };
        line.text(&seeds(|images, _| images.won.to_string()))
            .text(&seeds(|images, _| images.lost.to_string()));
        line.text(&seeds(|_, p| p.raw.to_string())).text(&seeds(|_, p| p.holm.to_string()));
        interval(line, tests.interval);
    }
}

/// A line, field by field.
#[derive(Default)]
pub(crate) struct Line(Vec<String>);

impl Line {
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        let quoted = text.contains(['"', ',', '\n', '\r']);
        self.0.push(if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() });
        self
    }

    pub(crate) fn value(&mut self, value: impl Display) -> &mut Self {
        self.text(&value.to_string())
    }

    pub(crate) fn maybe(&mut self, value: Option<impl Display>) -> &mut Self {
        self.text(&value.map_or_else(String::new, |value| value.to_string()))
    }

    fn sample(&mut self, sample: Option<Sample>) -> &mut Self {
        self.maybe(sample.map(|sample| sample.mean)).maybe(sample.and_then(|sample| sample.deviation))
    }

    pub(crate) fn end(&self, out: &mut String) {
        *out += &self.0.join(",");
        out.push('\n');
    }
}
