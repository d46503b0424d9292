//! Where the time of some work goes: kernel by kernel, and how near to what the machine can do.

use crate::stopwatch::Stopwatch;
use candle::Device;
use serde::Serialize;
use sokd_core::Result;
use sokd_ops::{Spent, peak_gflops, spent};
use std::fmt;

/// What a piece of work spends its time on, each time that it is done.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Of the wall clock, in all.
    pub milliseconds: f64,
    /// What no operation of ours spent of it, in per cent: autograd, operations of candle's own, bookkeeping.
    pub elsewhere_percent: f64,
    /// What this machine's threads do together in registers, in billions of multiplications and additions a second; of a GPU nobody
    /// knows.
    pub peak_gflops: Option<f64>,
    /// By kind, the longest first.
    pub kinds: Vec<Kind>,
}

/// One kind of operation on one size.
#[derive(Clone, Debug, Serialize)]
pub struct Kind {
    /// What, and on which size.
    pub work: String,
    /// How often, each time.
    pub times: f64,
    /// On this alone.
    pub milliseconds: f64,
    /// Of the whole, in per cent.
    pub percent: f64,
    /// Billions of multiplications and additions a second that the plain sum would have made, where weights multiply:
    /// Winograd makes fewer.
    pub gflops: Option<f64>,
}

/// Does some work so many times on a device, and listens.
///
/// # Errors
/// The work's.
pub fn profile(device: &Device, times: usize, mut work: impl FnMut() -> Result<()>) -> Result<Profile> {
    let clock = Stopwatch::start();
    let (done, told) = spent(|| (0..times).try_for_each(|_| work()));
    let seconds = clock.seconds();
    done?;
    let each = |seconds: f64| seconds * 1e3 / times as f64;
    let kind = |spent: &Spent| Kind {
        work: spent.work.clone(),
        times: spent.times as f64 / times as f64,
        milliseconds: each(spent.seconds),
        percent: 100.0 * spent.seconds / seconds,
        gflops: (spent.macs > 0).then(|| 2.0 * spent.macs as f64 / spent.seconds / 1e9),
    };
    let kinds: Vec<Kind> = told.iter().map(kind).collect();
    let elsewhere_percent = 100.0 - kinds.iter().map(|kind| kind.percent).sum::<f64>();
    let peak_gflops = device.is_cpu().then(peak_gflops);
    Ok(Profile { milliseconds: each(seconds), elsewhere_percent, peak_gflops, kinds })
}

/// What takes less of the whole, in per cent, stands in one line with others.
const LITTLE: f64 = 1.0;

impl fmt::Display for Profile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, little): (Vec<_>, Vec<_>) = self.kinds.iter().partition(|kind| kind.percent >= LITTLE);
        let wide = shown.iter().map(|kind| kind.work.len()).max().unwrap_or(0).max(40);
        let of_peak = if self.peak_gflops.is_some() { "  of peak" } else { "" };
        writeln!(
            out,
            "{:wide$}  {:>8}  {:>5}  {:>7}  {:>7}{of_peak}",
            "", "ms", "times", "share", "GFLOP/s"
        )?;
        for Kind { work, times, milliseconds, percent, gflops } in shown {
            write!(out, "{work:wide$}  {milliseconds:>8.2}  {times:>5.0}  {percent:>5.1} %")?;
            if let Some(gflops) = gflops {
                write!(out, "  {gflops:>7.1}")?;
            }
            if let (Some(gflops), Some(peak)) = (gflops, self.peak_gflops) {
                write!(out, "  {:>5.0} %", 100.0 * gflops / peak)?;
            }
            writeln!(out)?;
        }
        let rest = |out: &mut fmt::Formatter<'_>, what: String, percent: f64| {
            writeln!(
                out,
                "{what:wide$}  {:>8.2}  {:>5}  {percent:>5.1} %",
                self.milliseconds * percent / 100.0,
                ""
            )
        };
        if !little.is_empty() {
            let percent = little.iter().map(|kind| kind.percent).sum();
            rest(out, format!("{} kinds that take less", little.len()), percent)?;
        }
        rest(out, "elsewhere: autograd, candle, bookkeeping".into(), self.elsewhere_percent)?;
        match self.peak_gflops {
            Some(peak) => write!(out, "peak: {peak:.0} GFLOP/s, threads that multiply and add in registers"),
            None => write!(
                out,
                "each kernel by itself, from the word to its end: a step asks for the next meanwhile"
            ),
        }
    }
}
