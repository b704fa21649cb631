//! Five B-splines that add up to the profile of a cell.

use std::sync::LazyLock;

use super::kernel::{marginal, spline};

/// Splines along an axis that a large cell is written in.
pub(crate) const TAPS: usize = 5;

/// Smallest support of a cell that is written in splines, squared, in units of their knots.
pub(crate) const LEAST: f64 = 9.0;

/// Sizes within a level, squared and over the least, where the fit is made.
const SIZES: [f64; 4] = [1.04, 1.31, 1.69, 1.96];

/// Offsets from the nearest knot, in knots, where the fit is made.
const OFFSETS: [f64; 3] = [0.1, 0.3, 0.5];

/// Steps per knot of the integrals of the fit.
const STEPS: usize = 16;

/// Coefficients of the taps at 1 and 2 knots in the offset (even and odd powers of it), each a cubic
/// in the squared size: nearest in the least-squares sense at the sizes and offsets above.
pub(crate) struct Taps {
    even: [[[f64; 4]; 3]; 2],
    odd: [[[f64; 4]; 3]; 2],
}

/// The same for all pictures.
pub(crate) static FITTED: LazyLock<Taps> = LazyLock::new(Taps::fit);

impl Taps {
    fn fit() -> Self {
        let f = OFFSETS.map(|offset| offset * offset);
        let fits = SIZES.map(|size| OFFSETS.map(|offset| nearest((LEAST * size).sqrt(), offset)));
        let part = |distance: usize, sign: f64| -> [[f64; 4]; 3] {
            let powers = fits.map(|taps| {
                let values = [0, 1, 2].map(|p| {
                    let sum = taps[p][2 + distance] + sign * taps[p][2 - distance];
                    0.5 * sum / if sign < 0.0 { OFFSETS[p] } else { 1.0 }
                });
                parabola(f, values)
            });
            [0, 1, 2].map(|power| cubic(SIZES, powers.map(|of_size| of_size[power])))
        };
        Self {
            even: [part(1, 1.0), part(2, 1.0)],
            odd: [part(1, -1.0), part(2, -1.0)],
        }
    }

    /// Shares of a cell for the splines about its nearest knot, from the lowest on.
    ///
    /// `ratio` is the squared support over the least of the level, from 1 to 2, and `offsets` are
    /// the distances from the nearest knot. Not negative; they add up to 1.
    #[inline(always)]
    pub(crate) fn at(&self, ratio: f64, offsets: [f64; 2]) -> [[f64; TAPS]; 2] {
        let mut taps = [[0.0; TAPS]; 2];
        let (mut even, mut odd) = ([[0.0; 3]; 2], [[0.0; 3]; 2]);
        for d in 0..2 {
            for p in 0..3 {
                even[d][p] = polynomial(&self.even[d][p], ratio);
                odd[d][p] = polynomial(&self.odd[d][p], ratio);
            }
        }
        for axis in 0..2 {
            let offset = offsets[axis];
            let f = offset * offset;
            let taps = &mut taps[axis];
            for d in 0..2 {
                let e = even[d][0] + f * (even[d][1] + f * even[d][2]);
                let o = offset * (odd[d][0] + f * (odd[d][1] + f * odd[d][2]));
                taps[1 - d] = positive(e - o);
                taps[3 + d] = positive(e + o);
            }
            taps[2] = 1.0 - ((taps[0] + taps[1]) + (taps[3] + taps[4]));
        }
        taps
    }
}

#[inline(always)]
fn positive(value: f64) -> f64 {
    if value > 0.0 { value } else { 0.0 }
}

#[inline(always)]
fn polynomial(c: &[f64; 4], x: f64) -> f64 {
    (c[0] + x * c[1]) + (x * x) * (c[2] + x * c[3])
}

/// Powers of the cubic through four points.
fn cubic(x: [f64; 4], mut y: [f64; 4]) -> [f64; 4] {
    // Newton's divided differences, then Horner's scheme upwards.
    for order in 1..4 {
        for k in (order..4).rev() {
            y[k] = (y[k] - y[k - 1]) / (x[k] - x[k - order]);
        }
    }
    let mut powers = [y[3], 0.0, 0.0, 0.0];
    for k in (0..3).rev() {
        for p in (1..4).rev() {
            powers[p] = powers[p - 1] - x[k] * powers[p];
        }
        powers[0] = y[k] - x[k] * powers[0];
    }
    powers
}

/// Powers of the parabola through three points.
fn parabola(f: [f64; 3], y: [f64; 3]) -> [f64; 3] {
    let d01 = (y[1] - y[0]) / (f[1] - f[0]);
    let d12 = (y[2] - y[1]) / (f[2] - f[1]);
    let d = (d12 - d01) / (f[2] - f[0]);
    [y[0] - f[0] * (d01 - f[1] * d), d01 - d * (f[0] + f[1]), d]
}

/// The taps, with sum 1, whose splines are nearest to a cell in the least-squares sense.
fn nearest(support: f64, offset: f64) -> [f64; TAPS] {
    // Products of two cubic B-splines some knots apart.
    const GRAM: [f64; TAPS] = [
        2416.0 / 5040.0,
        1191.0 / 5040.0,
        120.0 / 5040.0,
        1.0 / 5040.0,
        0.0,
    ];
    let step = 1.0 / STEPS as f64;
    let project = |tap: usize| -> f64 {
        let knot = tap as f64 - 2.0;
        (1..4 * STEPS)
            .map(|k| {
                let t = k as f64 * step - 2.0;
                spline(t) * marginal((knot + t - offset) / support) / support * step
            })
            .sum()
    };
    let mut free: [f64; TAPS] = std::array::from_fn(project);
    let mut even = [1.0; TAPS];
    let mut gram: [[f64; TAPS]; TAPS] =
        std::array::from_fn(|i| std::array::from_fn(|j| GRAM[i.abs_diff(j)]));
    for pivot in 0..TAPS {
        for row in pivot + 1..TAPS {
            let factor = gram[row][pivot] / gram[pivot][pivot];
            let [above, below] = [gram[pivot], gram[row]];
            gram[row] = std::array::from_fn(|column| below[column] - factor * above[column]);
            free[row] -= factor * free[pivot];
            even[row] -= factor * even[pivot];
        }
    }
    for row in (0..TAPS).rev() {
        for column in row + 1..TAPS {
            free[row] -= gram[row][column] * free[column];
            even[row] -= gram[row][column] * even[column];
        }
        free[row] /= gram[row][row];
        even[row] /= gram[row][row];
    }
    let short = (1.0 - free.iter().sum::<f64>()) / even.iter().sum::<f64>();
    std::array::from_fn(|k| free[k] + short * even[k])
}
