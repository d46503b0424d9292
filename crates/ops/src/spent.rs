//! Where the time of a pass goes, told by the operations themselves while someone listens.

use crate::simd::{Kernel, Lanes, simd};
use crate::threads::{par, threads};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One kind of work, over a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Spent {
    /// What, and on which sizes.
    pub work: String,
    /// How often.
    pub times: u64,
    /// On this alone, by the wall clock: what ran inside of it is told for itself.
    pub seconds: f64,
    /// Multiplications of weights with values, as the plain sum makes them.
    pub macs: u64,
}

/// What has been told, and the time of what ran inside of the work that runs now.
#[derive(Default)]
struct Listener {
    kinds: BTreeMap<String, Spent>,
    inside: Duration,
}

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// What `work` gives, and on what the operations that it did in this thread spent their time, the longest first.
///
/// What no operation of this crate spent is the caller's, candle's own operations', and autograd's. Of a GPU each kernel is told,
/// and is waited for: a name for an operation around them is what it takes this side to ask.
///
/// # Example
/// ```
/// # use candle::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, -2.0]], &Device::Cpu)?;
/// let (y, spent) = sokd_ops::spent(|| sokd_ops::relu(&x));
/// assert_eq!(y?.to_vec2::<f32>()?, [[1.0, 0.0]]);
/// assert_eq!((spent[0].work.as_str(), spent[0].times), ("relu", 1));
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub fn spent<R>(work: impl FnOnce() -> R) -> (R, Vec<Spent>) {
    let before = LISTENER.replace(Some(Listener::default()));
    let result = work();
    let told = LISTENER.replace(before).unwrap_or_default();
    let mut kinds: Vec<Spent> = told.kinds.into_values().collect();
    kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    (result, kinds)
}

/// Whether someone listens, in this thread.
pub(crate) fn is_listened_to() -> bool {
    LISTENER.with_borrow(Option::is_some)
}

/// Does some work, and tells of it where someone listens: by a name, and its multiplications.
pub(crate) fn spend<R>(what: impl FnOnce() -> (String, usize), work: impl FnOnce() -> R) -> R {
    let around = |listener: &mut Option<Listener>| Some(std::mem::take(&mut listener.as_mut()?.inside));
    let Some(outer) = LISTENER.with_borrow_mut(around) else { return work() };
    let clock = now();
    let result = work();
    let elapsed = clock.elapsed();
    LISTENER.with_borrow_mut(|listener| {
        let Some(Listener { kinds, inside }) = listener else { return };
        let (work, macs) = what();
        let own = elapsed.saturating_sub(*inside).as_secs_f64();
        let kind = kinds.entry(work).or_insert_with_key(|work| Spent {
            work: work.clone(),
            times: 0,
            seconds: 0.0,
            macs: 0,
        });
        kind.times += 1;
        kind.seconds += own;
        kind.macs += macs as u64;
        *inside = outer + elapsed;
    });
    result
}

/// The same where no weights multiply.
pub(crate) fn named<R>(name: &str, work: impl FnOnce() -> R) -> R {
    spend(|| (name.to_owned(), 0), work)
}

#[expect(clippy::disallowed_methods, reason = "what it measures is shown, and decides nothing")]
fn now() -> Instant {
    Instant::now()
}

/// Billions of multiplications and additions a second (an `a · b + c` counts two) that the threads do together where all
/// they read is in registers: what no kernel can exceed.
pub fn peak_gflops() -> f64 {
    const ROUNDS: usize = 5;
    let (pieces, simd) = (4 * threads(), simd());
    let operations = (pieces * Chains::STEPS * Chains::COUNT * simd.lanes() * 2) as f64;
    let round = || {
        let clock = now();
        par(pieces, |_| {
            std::hint::black_box(simd.run(Chains));
        });
        clock.elapsed().as_secs_f64()
    };
    let fastest = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
    operations / fastest / 1e9
}

/// Sums that wait for nothing but themselves: enough of them, and every unit has work in every cycle.
struct Chains;

impl Chains {
    const COUNT: usize = 12;
    const STEPS: usize = 1 << 18;
}

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> f32 {
        // SAFETY: `Simd::run` sees to the instructions, and `last` has room for a register.
        unsafe {
            let (factor, term) = (L::splat(std::hint::black_box(0.5)), L::splat(std::hint::black_box(1.0)));
            let mut chains = [L::splat(0.0); Self::COUNT];
            // Of equal ones the compiler would keep one.
            for (start, chain) in chains.iter_mut().enumerate() {
                *chain = L::splat(std::hint::black_box(start as f32));
            }
            for _ in 0..Self::STEPS {
                for chain in &mut chains {
                    *chain = chain.mul_add(factor, term);
                }
            }
            let mut last = [0.0; 16];
            let total = chains.into_iter().fold(L::splat(0.0), |total, chain| total.add(chain));
            total.store(last.as_mut_ptr());
            last[0]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conv, conv2d, relu};
    use candle::{DType, Device, Tensor, Var};

    #[test]
    fn what_ran_inside_is_told_for_itself() {
        let pause = || std::thread::sleep(Duration::from_millis(20));
        let name = |name: &str| (name.to_owned(), 1);
        let clock = now();
        let ((), told) = spent(|| {
            spend(
                || name("outer"),
                || {
                    spend(|| name("inner"), pause);
                    spend(|| name("inner"), pause);
                },
            );
        });
        let whole = clock.elapsed().as_secs_f64();
        let [inner, outer] = &told[..] else { panic!("{told:?}") };
        assert_eq!((inner.work.as_str(), inner.times, inner.macs), ("inner", 2, 2));
        assert_eq!((outer.work.as_str(), outer.times), ("outer", 1));
        assert!(inner.seconds >= 0.04 && inner.seconds + outer.seconds <= whole, "{told:?} of {whole}");
    }

    #[test]
    fn a_pass_tells_of_both_its_ways() {
        let x = Var::zeros((2, 8, 8, 3), DType::F32, &Device::Cpu).expect("zeros");
        let kernel = Var::zeros((3, 3, 3, 5), DType::F32, &Device::Cpu).expect("zeros");
        let pass = || -> sokd_core::Result<Tensor> {
            let y = relu(&conv2d(&x, &kernel, None, Conv::same(3, 1))?)?;
            y.sum_all()?.backward()?;
            Ok(y)
        };
        let (_, told) = spent(pass);
        let macs = |work: &str| {
            let of = told.iter().find(|spent| spent.work == work);
            of.unwrap_or_else(|| panic!("no {work} in {told:?}")).macs
        };
        let forwards = 2 * 8 * 8 * 9 * 3 * 5;
        assert_eq!(macs("convolution 3 x 3, 8 x 8, 3 to 5"), forwards);
        assert_eq!(macs("gradients of convolution 3 x 3, 8 x 8, 3 to 5"), 2 * forwards);
        assert_eq!(macs("gradient of relu"), 0);
        // Nobody listens any more.
        pass().expect("as before");
        assert!(LISTENER.with_borrow(Option::is_none));
    }

    #[test]
    fn the_peak_is_a_processors() {
        // Work that the compiler saw through would take no time.
        let (peak, most) = (peak_gflops(), 2000.0 * threads() as f64);
        assert!((0.1..most).contains(&peak), "{peak} GFLOP/s");
    }

    /// Of a GPU, each kernel is told by itself.
    #[cfg(feature = "mirror")]
    #[test]
    fn kernels_of_a_gpu_are_told() -> sokd_core::Result<()> {
        use crate::{Backend, with_backend};
        let image = Var::from_tensor(&Tensor::ones((1, 6, 6, 2), DType::F32, &Device::Cpu)?)?;
        let kernel = Var::from_tensor(&Tensor::ones((3, 3, 2, 4), DType::F32, &Device::Cpu)?)?;
        let work = || -> sokd_core::Result<()> {
            relu(&conv2d(&image, &kernel, None, Conv::same(3, 2))?)?.sum_all()?.backward()?;
            Ok(())
        };
        let (done, told) = with_backend(Backend::Mirror, || spent(work));
        done?;
        for (work, macs) in [
            ("convolution 3 x 3 / 2, 6 x 6, 2 to 4", 648),
            ("map's gradient of convolution 3 x 3 / 2, 6 x 6, 2 to 4", 648),
            ("kernel's gradient of convolution 3 x 3 / 2, 6 x 6, 2 to 4", 648),
            ("kernel relu_float", 0),
        ] {
            let kind = told.iter().find(|spent| spent.work == work);
            let kind = kind.unwrap_or_else(|| panic!("{work} is not in {told:?}"));
            // In cuDNN's place stand this machine's own loops, which tell of themselves too.
            assert!(kind.times > 0 && kind.macs == kind.times * macs, "{kind:?}");
        }
        Ok(())
    }
}
