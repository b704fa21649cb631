//! Numbers as they come: single or double precision.

use crate::simd::prefetch_range;

/// A type that particle arrays come in. Sealed: f32 and f64.
pub trait Real: Copy + Send + Sync + sealed::Sealed {
    /// The same number as a double.
    fn wide(self) -> f64;

    /// Neither NaN nor infinite.
    #[inline(always)]
    fn is_finite(self) -> bool {
        // `f64::is_finite` becomes a comparison of integers, slow in vectors before SSE4.2.
        0.0 * self.wide() == 0.0
    }
}

impl Real for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// One number per particle.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl Values<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Asks for values that will be needed soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, start: usize, count: usize) {
        match self {
            Self::F32(values) => prefetch_range(values, start, count),
            Self::F64(values) => prefetch_range(values, start, count),
        }
    }

    /// The values of some particles, as doubles.
    #[inline(always)]
    pub(crate) fn load(&self, which: &Rows<'_>, target: &mut [f64]) {
        match self {
            Self::F32(values) => which.copy(values, target),
            Self::F64(values) => which.copy(values, target),
        }
    }

    /// What `of` makes of three values a particle.
    #[inline(always)]
    pub(crate) fn load_vectors(
        &self,
        which: &Rows<'_>,
        target: &mut [f64],
        of: impl Fn([f64; 3]) -> f64,
    ) {
        match self {
            Self::F32(values) => which.map(values.as_chunks().0, target, |v| of(v.map(Real::wide))),
            Self::F64(values) => which.map(values.as_chunks().0, target, of),
        }
    }
}

/// The value, or zero.
#[inline(always)]
pub(crate) fn keep_if(keep: u64, value: f64) -> f64 {
    f64::from_bits(value.to_bits() & keep.wrapping_neg())
}

/// Which of the particles from `start` on.
pub(crate) enum Rows<'a> {
    /// All that the target has room for.
    All { start: usize },
    /// Those at these distances.
    At { start: usize, at: &'a [u8] },
}

impl Rows<'_> {
    #[inline(always)]
    fn copy<T: Real>(&self, values: &[T], target: &mut [f64]) {
        self.map(values, target, Real::wide);
    }

    #[inline(always)]
    fn map<T: Copy>(&self, values: &[T], target: &mut [f64], of: impl Fn(T) -> f64) {
        match self {
            Self::All { start } => {
                for (slot, &value) in target.iter_mut().zip(&values[*start..]) {
                    *slot = of(value);
                }
            }
            Self::At { start, at } => {
                let values = &values[*start..];
                for (slot, &at) in target.iter_mut().zip(*at) {
                    *slot = of(values[usize::from(at)]);
                }
            }
        }
    }
}
