//! The pixels of a picture.

use crate::Error;
use crate::batch::Places;
use crate::simd::truncate;

/// More pixels than this per channel (2 GiB of doubles) are surely a mistake.
const MOST_PIXELS: usize = 1 << 28;

/// Pixels that places lie in.
pub(crate) trait Grid: Clone + Send + Sync {
    /// How many there are.
    fn pixels(&self) -> usize;

    /// Pixels of places in the frame; some pixel for others. Must be `#[inline(always)]`.
    fn locate(&self, places: &Places<'_>, pixels: &mut [u32]);
}

/// The pixels of a picture: `bins` equal bins over an extent, half-open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flat {
    low: [f64; 2],
    high: [f64; 2],
    bins: [usize; 2],
    scale: f64,
}

impl Flat {
    /// A grid over `extent`, (low, high) in x and in y.
    ///
    /// A `bin_scale` below 1 squeezes all into that part of the bins.
    ///
    /// # Errors
    /// [`Error::Range`] for no bins or more than 2^28 pixels, an extent that is empty, reversed,
    /// not finite or of infinite width, a `bin_scale` outside (0, 1].
    pub(crate) fn new(
        extent: [[f64; 2]; 2],
        bins: [usize; 2],
        bin_scale: f64,
    ) -> Result<Self, Error> {
        let pixels = bins[0].checked_mul(bins[1]);
        if !pixels.is_some_and(|n| (1..=MOST_PIXELS).contains(&n)) {
            return Err(Error::range(
                "bins",
                &bins,
                "1 or more along each axis, 2**28 pixels at most",
            ));
        }
        if !extent
            .iter()
            .all(|[low, high]| low < high && (high - low).is_finite())
        {
            return Err(Error::range(
                "extent",
                &extent,
                "finite ((x0, x1), (y0, y1)) with x0 < x1, y0 < y1 and finite widths",
            ));
        }
        if !(bin_scale > 0.0 && bin_scale <= 1.0) {
            return Err(Error::range("bin_scale", &bin_scale, "above 0, 1 at most"));
        }
        Ok(Self {
            low: extent.map(|[low, _]| low),
            high: extent.map(|[_, high]| high),
            bins,
            scale: bin_scale,
        })
    }

    /// Bins along x and y.
    pub(crate) fn bins(&self) -> [usize; 2] {
        self.bins
    }

    /// Bins per length along x and y.
    pub(crate) fn per_length(&self) -> [f64; 2] {
        [0, 1].map(|axis| self.scale * self.bins[axis] as f64 / (self.high[axis] - self.low[axis]))
    }

    /// The low end of x and y.
    pub(crate) fn low(&self) -> [f64; 2] {
        self.low
    }

    /// Bin of a value in range, some bin for others.
    ///
    /// The quotient may round up to 1 and the product to `bins`.
    #[inline(always)]
    fn bin(&self, axis: usize, value: f64) -> u32 {
        let low = self.low[axis];
        let bins = self.bins[axis] as f64;
        let bin = (value - low) / (self.high[axis] - low) * self.scale * bins;
        truncate(if bin < bins { bin } else { bins - 1.0 })
    }
}

impl Grid for Flat {
    fn pixels(&self) -> usize {
        self.bins[0] * self.bins[1]
    }

    /// Of pixels, x is the slow axis.
    #[inline(always)]
    fn locate(&self, places: &Places<'_>, pixels: &mut [u32]) {
        let rows = self.bins[1] as u32;
        for (pixel, (&x, &y)) in pixels.iter_mut().zip(places.x.iter().zip(places.y)) {
            *pixel = self.bin(0, x) * rows + self.bin(1, y);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_index_that_rounds_up_is_the_last_bin() {
        let mut rounded_up = 0;
        for k in 1..2000_u32 {
            let (low, high) = (-0.1 * f64::from(k), 0.7 + f64::from(k) / 3.0);
            let g = Flat::new([[low, high], [0.0, 1.0]], [k as usize, 1], 1.0).unwrap();
            let x = high.next_down();
            rounded_up += u32::from((x - low) / (high - low) * f64::from(k) >= f64::from(k));
            assert_eq!(g.bin(0, x), k - 1);
        }
        assert!(rounded_up > 0);
    }

    #[test]
    fn the_scale_squeezes_the_index() {
        let g = Flat::new([[0.0, 1.0], [0.0, 1.0]], [256, 256], 0.99).unwrap();
        assert_eq!(g.bin(0, 0.5), 126);
        assert_eq!(g.bin(0, 1.0_f64.next_down()), 253);
    }

    #[test]
    fn grids_are_checked() {
        let make =
            |low, high, bins, scale| match Flat::new([[0.0, 1.0], [low, high]], [1, bins], scale) {
                Err(Error::Range { name, .. }) => name,
                _ => "",
            };
        assert_eq!(make(0.0, 1.0, 1, 1.0), "");
        assert_eq!(make(0.0, 1.0, 0, 1.0), "bins");
        assert_eq!(make(0.0, 1.0, usize::MAX, 1.0), "bins");
        for (low, high) in [
            (1.0, 1.0),
            (1.0, 0.0),
            (f64::NAN, 1.0),
            (0.0, f64::INFINITY),
            (-f64::MAX, f64::MAX),
        ] {
            assert_eq!(make(low, high, 1, 1.0), "extent");
        }
        for scale in [0.0, -1.0, 1.0_f64.next_up(), f64::NAN] {
            assert_eq!(make(0.0, 1.0, 1, scale), "bin_scale");
        }
    }
}
