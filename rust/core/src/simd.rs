//! The same code compiled for wider vectors, chosen when the program runs.
//!
//! Wheels are built for the oldest processor of an architecture. What is marked
//! `#[inline(always)]` below a [`Task`] is compiled once per [`Level`]; no level contracts a product
//! and a sum, so all give the same bits.

/// Vector instructions that a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Those that the architecture always has.
    Baseline,
    /// 256-bit vectors of x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Level {
    /// Every level of this processor, the best last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut levels = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            levels.push(Self::Avx2);
        }
        levels
    }

    /// The best level of this processor.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        Self::Baseline
    }

    /// Runs a task, with the baseline where this processor lacks the level.
    #[inline]
    pub(crate) fn run<T: Task>(self, task: T) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the guard has just found the instructions on this processor.
            Self::Avx2 if std::arch::is_x86_feature_detected!("avx2") => unsafe { avx2(task) },
            _ => task.run(),
        }
    }
}

/// Work on slices; `run` and what it calls must be `#[inline(always)]`.
pub(crate) trait Task {
    fn run(self);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<T: Task>(task: T) {
    task.run();
}

/// The whole part of a number from 0 to 2^31, 0 for those below and NaN.
#[inline(always)]
pub(crate) fn truncate(value: f64) -> u32 {
    const MOST: f64 = i32::MAX as f64;
    let value = if value > 0.0 { value } else { 0.0 };
    let value = if value < MOST { value } else { MOST };
    // SAFETY: it is not NaN and fits. A plain cast would check that again, lane by lane.
    let whole: i32 = unsafe { value.to_int_unchecked() };
    whole as u32
}

/// Bytes that processors fetch at a time.
const LINE: usize = 64;

/// Asks for the element of an index to be fetched from memory, if there is such a one.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint reads nothing, and what lies outside is ignored.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(index).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, index);
}

/// Asks for a range of elements, as far as there are any.
#[inline(always)]
pub(crate) fn prefetch_range<T>(values: &[T], start: usize, count: usize) {
    for index in (start..start + count).step_by((LINE / size_of::<T>()).max(1)) {
        prefetch(values, index);
    }
}
