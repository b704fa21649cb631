//! The pixels of a picture, and sums over them of particles whose places are known.

use std::ops::Range;

use crate::accumulate::{Accumulator, Batch, Books, Gather};
use crate::error::check_length;
use crate::simd::{prefetch_range, truncate};
use crate::values::Real;
use crate::{Channel, Error, Threads};

/// More pixels than this per channel (2 GiB of doubles) are surely a mistake.
const MOST_PIXELS: usize = 1 << 28;

/// The pixels of a picture: `bins` equal bins over an extent, half-open.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    low: [f64; 2],
    high: [f64; 2],
    bins: [usize; 2],
    scale: f64,
}

impl Grid {
    /// A grid over `extent`, (low, high) in x and in y.
    ///
    /// A `bin_scale` below 1 squeezes all into that part of the bins.
    ///
    /// # Errors
    /// [`Error::Range`] for no bins or more than 2^28 pixels, an extent that is empty, reversed,
    /// not finite or of infinite width, a `bin_scale` outside (0, 1].
    pub fn new(extent: [[f64; 2]; 2], bins: [usize; 2], bin_scale: f64) -> Result<Self, Error> {
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

    pub(crate) fn pixels(&self) -> usize {
        self.bins[0] * self.bins[1]
    }

    #[inline(always)]
    fn contains(&self, axis: usize, value: f64) -> bool {
        (value >= self.low[axis]) & (value < self.high[axis])
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

    /// Pixels of places in range, x the slow axis; some pixel for others.
    #[inline(always)]
    pub(crate) fn locate(&self, x: &[f64], y: &[f64], pixels: &mut [u32]) {
        let rows = self.bins[1] as u32;
        for (pixel, (&x, &y)) in pixels.iter_mut().zip(x.iter().zip(y)) {
            *pixel = self.bin(0, x) * rows + self.bin(1, y);
        }
    }
}

struct Points<'a, X, Y> {
    x: &'a [X],
    y: &'a [Y],
    grid: &'a Grid,
}

impl<X: Real, Y: Real> Gather for Points<'_, X, Y> {
    fn len(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    fn prefetch(&self, range: Range<usize>) {
        prefetch_range(self.x, range.start, range.len());
        prefetch_range(self.y, range.start, range.len());
    }

    #[inline(always)]
    fn gather(&self, range: Range<usize>, batch: &mut Batch) {
        let points = self.x[range.clone()].iter().zip(&self.y[range]);
        let places = batch.x.iter_mut().zip(&mut batch.y);
        let mut bad = 0_u64;
        for (((x, y), (px, py)), inside) in places.zip(points).zip(&mut batch.inside) {
            (*x, *y) = (px.wide(), py.wide());
            *inside = u64::from(self.grid.contains(0, *x) & self.grid.contains(1, *y));
            bad += u64::from(!(px.is_finite() & py.is_finite()));
        }
        batch.bad = bad as usize;
    }
}

/// Sums of the weights per pixel, channel by channel with x the slow axis.
///
/// # Errors
/// [`Error::Length`] when `y` or a channel has not one entry per particle, [`Error::Range`]
/// without channels, [`Error::Memory`], [`Error::Pool`].
pub fn bin_2d<X: Real, Y: Real>(
    x: &[X],
    y: &[Y],
    weights: &[Channel<'_>],
    grid: &Grid,
    threads: Threads,
) -> Result<Vec<f64>, Error> {
    check_length("y", y.len(), x.len())?;
    let mut sums = Accumulator::new(
        *grid,
        weights.iter().map(Channel::columns).sum(),
        Books::InFrame,
    )?;
    sums.add(&Points { x, y, grid }, weights, threads)?;
    Ok(sums.finish()?.maps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn grid(bins: [usize; 2], scale: f64) -> Grid {
        Grid::new([[0.0, 4.0], [0.0, 2.0]], bins, scale).unwrap()
    }

    fn count(x: &[f64], y: &[f64], grid: &Grid) -> Vec<f64> {
        let ones = vec![1.0; x.len()];
        bin_2d(x, y, &[(&ones[..]).into()], grid, Threads::SERIAL).unwrap()
    }

    #[test]
    fn x_is_the_slow_axis() {
        let maps = count(&[3.5, 0.5], &[0.5, 1.5], &grid([4, 2], 1.0));
        assert_eq!(maps, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn bins_are_half_open() {
        let g = grid([4, 1], 1.0);
        let inside = 4.0_f64.next_down();
        let x = [0.0, 1.0, 1.0_f64.next_down(), inside, 4.0, -5e-324];
        assert_eq!(count(&x, &[0.0; 6], &g), [2.0, 1.0, 0.0, 1.0]);
        assert_eq!(count(&[1.0; 2], &[2.0, -0.1], &g), [0.0; 4]);
    }

    #[test]
    fn an_index_that_rounds_up_is_the_last_bin() {
        let mut rounded_up = 0;
        for k in 1..2000_u32 {
            let (low, high) = (-0.1 * f64::from(k), 0.7 + f64::from(k) / 3.0);
            let g = Grid::new([[low, high], [0.0, 1.0]], [k as usize, 1], 1.0).unwrap();
            let x = high.next_down();
            rounded_up += u32::from((x - low) / (high - low) * f64::from(k) >= f64::from(k));
            assert_eq!(g.bin(0, x), k - 1);
        }
        assert!(rounded_up > 0);
    }

    #[test]
    fn the_scale_squeezes_the_index() {
        let g = Grid::new([[0.0, 1.0], [0.0, 1.0]], [256, 256], 0.99).unwrap();
        assert_eq!(g.bin(0, 0.5), 126);
        assert_eq!(g.bin(0, 1.0_f64.next_down()), 253);
    }

    #[test]
    fn bad_values_add_nothing() {
        let g = grid([1, 1], 1.0);
        let w = [1.0, f64::NAN, f64::INFINITY, 2.0, 4.0];
        let x = [1.0, 1.0, 1.0, f64::NAN, 1.0];
        let y = [1.0, 1.0, 1.0, 1.0, f64::NEG_INFINITY];
        let maps = bin_2d(&x, &y, &[(&w[..]).into()], &g, Threads::SERIAL).unwrap();
        assert_eq!(maps, [1.0]);
    }

    #[test]
    fn no_particles_give_zeros() {
        assert_eq!(count(&[], &[], &grid([2, 2], 1.0)), [0.0; 4]);
    }

    #[test]
    fn grids_are_checked() {
        let make =
            |low, high, bins, scale| match Grid::new([[0.0, 1.0], [low, high]], [1, bins], scale) {
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

    #[test]
    fn lengths_are_checked() {
        let g = grid([1, 1], 1.0);
        let run = |y: &[f32], weights: &[Channel<'_>]| {
            bin_2d(&[1.0], y, weights, &g, Threads::SERIAL).err()
        };
        assert!(matches!(run(&[], &[]), Some(Error::Length { name, .. }) if name == "y"));
        assert!(matches!(
            run(&[1.0], &[]),
            Some(Error::Range {
                name: "weights",
                ..
            })
        ));
        let weights = [Channel::from(&[1.0_f32][..]), Channel::from(&[] as &[f64])];
        assert!(matches!(
            run(&[1.0], &weights),
            Some(Error::Length { name, got: 0, expected: 1 }) if name == "weights[1]"
        ));
    }
}
