//! Cells with a size: each is spread over a cubic spline, and none of it is lost.
//!
//! The spline of a cell is taken as the product of its profiles along x and y, so that its share of
//! a pixel is exact wherever one edge cuts it, however small it is. Cells that reach less than three
//! pixels far go to pixels; larger ones are written in B-splines of a grid as coarse as they are,
//! 5 x 5 of them whatever their size, and the grids become pixels at the end.

mod kernel;
mod layers;
mod taps;

use std::f64::consts::PI;
use std::sync::Arc;

use super::{Deposit, Image, TILE};
use crate::Error;
use crate::batch::{BATCH, Places};
use crate::grid::{Flat, Grid};
use crate::math;
use crate::parallel::zeros;
use crate::simd::{Level, Task, truncate};
use kernel::below;
use layers::{Layers, MARGIN, WIDEST};
use taps::{FITTED, LEAST, TAPS};

/// How far a cell reaches, in radii of a sphere of its volume.
const SUPPORT: f64 = 2.5;

/// How far cells reach, in place of their volumes; NaN or infinite for those of no volume.
#[inline(always)]
pub(crate) fn reach_of_volumes(volumes: &mut [f64]) {
    // (V 3 / 4 pi)^(2/3), of the inverse; an empty cell's is infinite.
    for volume in volumes.iter_mut() {
        let is_one = *volume >= 0.0;
        *volume = 4.0 * PI / 3.0 / if is_one { *volume } else { f64::NAN };
    }
    math::inverse_cbrt_squared(volumes);
    for square in volumes {
        *square = SUPPORT * square.sqrt();
    }
}

/// The pixels of a picture, and the grids that cells are left on.
#[derive(Clone)]
pub(crate) struct Layered {
    flat: Flat,
    per_length: f64,
    layers: Arc<Layers>,
}

impl Layered {
    /// For a picture of these pixels.
    ///
    /// # Errors
    /// [`Error::Range`] unless they are square.
    pub(crate) fn new(flat: Flat) -> Result<Self, Error> {
        let per_length = flat.per_length();
        if (per_length[0] / per_length[1] - 1.0).abs() > 1e-9 {
            let allowed = "square pixels for the deposit smoothed: as many bins per length along y";
            return Err(Error::range("bins", &flat.bins(), allowed));
        }
        Ok(Self {
            per_length: per_length[0],
            layers: Arc::new(Layers::new(flat.bins())),
            flat,
        })
    }
}

impl Grid for Layered {
    fn pixels(&self) -> usize {
        self.flat.pixels()
    }

    #[inline(always)]
    fn locate(&self, places: &Places<'_>, pixels: &mut [u32]) {
        self.flat.locate(places, pixels);
    }
}

/// Where the cells of a batch are, in pixels.
pub(crate) struct Smoothed {
    x: [f64; BATCH],
    y: [f64; BATCH],
    /// How far they reach, squared; NaN for those outside.
    reach2: [f64; BATCH],
    len: usize,
}

impl Default for Smoothed {
    fn default() -> Self {
        Self {
            x: [0.0; BATCH],
            y: [0.0; BATCH],
            reach2: [0.0; BATCH],
            len: 0,
        }
    }
}

impl Deposit<Layered> for Smoothed {
    fn nodes(grid: &Layered) -> usize {
        grid.layers.nodes()
    }

    fn widest(grid: &Layered) -> f64 {
        let bins = grid.layers.bins;
        f64::from(1_u32 << WIDEST) * bins[0].max(bins[1]) as f64 / grid.per_length
    }

    #[inline(always)]
    fn aim(&mut self, grid: &Layered, places: &Places<'_>, _: &Image) {
        self.len = places.x.len().min(BATCH);
        let (low, per) = (grid.flat.low(), grid.per_length);
        for i in 0..self.len {
            self.x[i] = (places.x[i] - low[0]) * per;
            self.y[i] = (places.y[i] - low[1]) * per;
            let reach = (places.reach[i] * per).max(POINT);
            self.reach2[i] = reach * reach;
        }
        if let Some(inside) = places.inside {
            for (reach2, &inside) in self.reach2.iter_mut().zip(inside) {
                *reach2 = if inside == 0 { f64::NAN } else { *reach2 };
            }
        }
    }

    #[inline(always)]
    fn add(&self, grid: &Layered, weights: &[[f64; BATCH]], image: &mut Image, level: Level) {
        // Not inlined: once for all types of particles.
        level.run(Leave {
            cells: self,
            layers: &grid.layers,
            weights,
            image,
        });
    }

    fn develop(grid: &Layered, mut image: Image, level: Level) -> Result<Vec<f64>, Error> {
        let columns = image.columns;
        let pixels = grid.pixels();
        let mut maps = zeros(pixels * columns)?;
        let mut row = zeros((grid.layers.bins[1] + 2 * MARGIN + 2) * columns)?;
        level.run(Develop {
            layers: &grid.layers,
            image: &mut image,
            row: &mut row,
            maps: &mut maps,
        });
        Ok(maps)
    }
}

/// What reaches less far, in pixels, is a point.
const POINT: f64 = 1e-10;

/// Cells whose shares are known at a time.
const FEW: usize = 64;

/// Most pixels along an axis that a cell without splines reaches.
const WIDE: usize = 7;

/// Squared reach up to which a cell is in four pixels along an axis at most.
const TINY: f64 = 2.25;

/// Some cells of a batch, as their shares of `N` nodes along both axes.
struct Shares<const N: usize> {
    along_x: [[f64; FEW]; N],
    along_y: [[f64; FEW]; N],
    first: [u32; FEW],
    stride: [u32; FEW],
    at: [u8; FEW],
    len: usize,
}

impl<const N: usize> Default for Shares<N> {
    fn default() -> Self {
        Self {
            along_x: [[0.0; FEW]; N],
            along_y: [[0.0; FEW]; N],
            first: [0; FEW],
            stride: [0; FEW],
            at: [0; FEW],
            len: 0,
        }
    }
}

impl<const N: usize> Shares<N> {
    /// Picks those of some cells whose squared reach is such.
    #[inline(always)]
    fn pick(&mut self, reach2: &[f64], is_such: impl Fn(f64) -> bool) {
        let mut len = 0;
        for (i, reach2) in reach2.iter().enumerate() {
            self.at[len % FEW] = i as u8;
            len += usize::from(is_such(*reach2));
        }
        self.len = len.min(FEW);
    }

    /// The values of those picked.
    #[inline(always)]
    fn load(&self, values: &[f64]) -> [f64; FEW] {
        let mut loaded = [1.0; FEW];
        for (loaded, i) in loaded.iter_mut().zip(&self.at[..self.len]) {
            *loaded = values[usize::from(*i)];
        }
        loaded
    }

    /// Exact shares of pixels.
    #[inline(always)]
    fn of_pixels(&mut self, layers: &Layers, cells: &Few<'_>) {
        let n = self.len;
        let stride = layers.pixels.shape[1] as u32;
        let (mut reach, mut per) = (self.load(cells.reach2), [0.0; FEW]);
        for k in 0..n {
            reach[k] = reach[k].sqrt();
            per[k] = 1.0 / reach[k];
        }
        self.first = [0; FEW];
        self.stride = [stride; FEW];
        for axis in 0..2 {
            let place = self.load(if axis == 0 { cells.x } else { cells.y });
            let step = if axis == 0 { stride } else { 1 };
            let mut edge = [0.0; FEW];
            for k in 0..n {
                let low = truncate(place[k] - reach[k] + MARGIN as f64);
                self.first[k] += low * step;
                edge[k] = f64::from(low) - MARGIN as f64 - place[k];
            }
            let shares = if axis == 0 {
                &mut self.along_x
            } else {
                &mut self.along_y
            };
            for (t, below_edge) in shares[..N - 1].iter_mut().enumerate() {
                for k in 0..n {
                    below_edge[k] = below((edge[k] + (t + 1) as f64) * per[k]);
                }
            }
            shares[N - 1] = [1.0; FEW];
            for t in (1..N).rev() {
                let lower = shares[t - 1];
                for (share, lower) in shares[t][..n].iter_mut().zip(&lower) {
                    *share = (*share - lower).max(0.0);
                }
            }
        }
    }
}

impl Shares<TAPS> {
    /// Shares of splines, whose layers are as coarse as the cells.
    #[inline(always)]
    fn of_splines(&mut self, layers: &Layers, cells: &Few<'_>) {
        let n = self.len;
        let fitted = &*FITTED;
        let (mut x, mut y) = (self.load(cells.x), self.load(cells.y));
        let mut ratio = self.load(cells.reach2);
        let mut number = [0; FEW];
        for k in 0..n {
            (number[k], ratio[k]) = layers.layer_of(ratio[k]);
        }
        for k in 0..n {
            let per_pitch = layers.splines[number[k]].per_pitch;
            x[k] = x[k] * per_pitch + (MARGIN as f64 + 0.5);
            y[k] = y[k] * per_pitch + (MARGIN as f64 + 0.5);
        }
        let (mut row, mut column) = ([0_u32; FEW], [0_u32; FEW]);
        for k in 0..n {
            row[k] = truncate(x[k]);
            column[k] = truncate(y[k]);
            let offsets = [
                x[k] - 0.5 - f64::from(row[k]),
                y[k] - 0.5 - f64::from(column[k]),
            ];
            let [along_x, along_y] = fitted.at(ratio[k], offsets);
            for t in 0..TAPS {
                self.along_x[t][k] = along_x[t];
                self.along_y[t][k] = along_y[t];
            }
        }
        for k in 0..n {
            let layer = &layers.splines[number[k]];
            let low = [row[k] as usize - TAPS / 2, column[k] as usize - TAPS / 2];
            self.first[k] = (layer.first + low[0] * layer.shape[1] + low[1]) as u32;
            self.stride[k] = layer.shape[1] as u32;
            if layer.is_near(low) {
                let i = usize::from(self.at[k]);
                let reach = cells.reach2[i].sqrt();
                let bins = layers.bins.map(|n| n as f64);
                // What a cell holds that the frame contains stays in it, though its splines
                // reach a little farther than itself.
                if cells.x[i] >= reach && cells.x[i] + reach <= bins[0] {
                    keep_inside(&mut self.along_x, k, &layer.inside[0][low[0]..]);
                }
                if cells.y[i] >= reach && cells.y[i] + reach <= bins[1] {
                    keep_inside(&mut self.along_y, k, &layer.inside[1][low[1]..]);
                }
            }
        }
    }
}

/// Scales shares so that what lies in the picture adds up to 1.
#[inline(always)]
fn keep_inside(shares: &mut [[f64; FEW]; TAPS], k: usize, inside: &[f64]) {
    let mut sum = 0.0;
    for (share, inside) in shares.iter().zip(inside) {
        sum += share[k] * inside;
    }
    for share in shares {
        share[k] /= sum;
    }
}

impl<const N: usize> Shares<N> {
    /// Leaves a cell on the first `M` of its nodes along each axis.
    #[inline(always)]
    fn leave<const M: usize, const W: usize, const L: usize>(
        &self,
        k: usize,
        held: &[f64; L],
        image: &mut Image,
    ) {
        // Padded to whole vectors: a sum and a zero are the sum.
        let mut row = [0.0; W];
        for t in 0..M {
            for c in 0..L {
                row[t * L + c] = held[c] * self.along_y[t][k];
            }
        }
        let mut first = self.first[k] as usize;
        for t in 0..M {
            let share = self.along_x[t][k];
            let nodes = &mut image.sums[first * L..][..W];
            for (node, value) in nodes.iter_mut().zip(&row) {
                *node += share * value;
            }
            image.dirty[first / TILE] = true;
            image.dirty[(first + M - 1) / TILE] = true;
            first += self.stride[k] as usize;
        }
    }

    /// The same for any number of columns.
    fn leave_any(&self, k: usize, held: &[[f64; BATCH]], i: usize, image: &mut Image) {
        let first = self.first[k] as usize;
        for t in 0..N {
            for u in 0..N {
                let node = first + t * self.stride[k] as usize + u;
                let share = self.along_x[t][k];
                for (c, held) in held.iter().enumerate() {
                    image.sums[node * image.columns + c] += share * (held[i] * self.along_y[u][k]);
                }
                image.dirty[node / TILE] = true;
            }
        }
    }
}

/// Some cells of a batch.
struct Few<'a> {
    x: &'a [f64],
    y: &'a [f64],
    reach2: &'a [f64],
}

/// The cells of a few, as their shares.
#[derive(Default)]
struct Sorted {
    large: Shares<TAPS>,
    middle: Shares<WIDE>,
    tiny: Shares<4>,
}

impl Sorted {
    #[inline(always)]
    fn sort(&mut self, layers: &Layers, cells: &Few<'_>) {
        self.large.pick(cells.reach2, |r| r >= LEAST);
        self.large.of_splines(layers, cells);
        self.middle.pick(cells.reach2, |r| (r > TINY) & (r < LEAST));
        self.middle.of_pixels(layers, cells);
        self.tiny.pick(cells.reach2, |r| r <= TINY);
        self.tiny.of_pixels(layers, cells);
    }
}

/// Cells on their way to the grids.
struct Leave<'a> {
    cells: &'a Smoothed,
    layers: &'a Layers,
    weights: &'a [[f64; BATCH]],
    image: &'a mut Image,
}

impl Task for Leave<'_> {
    #[inline(always)]
    fn run(mut self) {
        let cells = self.cells;
        let mut sorted = Sorted::default();
        for start in (0..cells.len).step_by(FEW) {
            let end = (start + FEW).min(cells.len);
            let few = Few {
                x: &cells.x[start..end],
                y: &cells.y[start..end],
                reach2: &cells.reach2[start..end],
            };
            sorted.sort(self.layers, &few);
            // The lengths are those of 3 to 7 nodes, padded.
            match self.weights.len() {
                1 => self.leave::<1, 4, 4, 8, 8, 8>(&sorted, start, end),
                2 => self.leave::<2, 8, 8, 12, 12, 16>(&sorted, start, end),
                3 => self.leave::<3, 12, 12, 16, 20, 24>(&sorted, start, end),
                4 => self.leave::<4, 12, 16, 20, 24, 28>(&sorted, start, end),
                5 => self.leave::<5, 16, 20, 28, 32, 36>(&sorted, start, end),
                _ => self.leave_any(&sorted, start, end),
            }
        }
    }
}

impl Leave<'_> {
    /// Leaves cells on the grids, in their order on each.
    #[inline(always)]
    fn leave<
        const L: usize,
        const W3: usize,
        const W4: usize,
        const W5: usize,
        const W6: usize,
        const W7: usize,
    >(
        &mut self,
        sorted: &Sorted,
        start: usize,
        end: usize,
    ) {
        let Sorted {
            large,
            middle,
            tiny,
        } = sorted;
        let image = &mut *self.image;
        let mut held = [[0.0; L]; FEW];
        for (c, weights) in self.weights.iter().enumerate().take(L) {
            for (held, weight) in held.iter_mut().zip(&weights[start..end]) {
                held[c] = *weight;
            }
        }
        for k in 0..large.len {
            let held = &held[usize::from(large.at[k]) % FEW];
            large.leave::<TAPS, W5, L>(k, held, image);
        }
        let (mut t, mut m) = (0, 0);
        for (held, &r) in held.iter().zip(&self.cells.reach2[start..end]) {
            if r <= TINY {
                if r <= 1.0 {
                    tiny.leave::<3, W3, L>(t % FEW, held, image);
                } else {
                    tiny.leave::<4, W4, L>(t % FEW, held, image);
                }
                t += 1;
            } else if r < LEAST {
                if r <= 4.0 {
                    middle.leave::<5, W5, L>(m % FEW, held, image);
                } else if r <= 6.25 {
                    middle.leave::<6, W6, L>(m % FEW, held, image);
                } else {
                    middle.leave::<7, W7, L>(m % FEW, held, image);
                }
                m += 1;
            }
        }
    }

    /// The same for any number of columns.
    #[inline(always)]
    fn leave_any(&mut self, sorted: &Sorted, start: usize, end: usize) {
        for k in 0..sorted.large.len {
            let i = start + usize::from(sorted.large.at[k]);
            sorted.large.leave_any(k, self.weights, i, self.image);
        }
        let (mut t, mut m) = (0, 0);
        for (i, &r) in self.cells.reach2[start..end].iter().enumerate() {
            if r <= TINY {
                sorted
                    .tiny
                    .leave_any(t, self.weights, start + i, self.image);
                t += 1;
            } else if r < LEAST {
                sorted
                    .middle
                    .leave_any(m, self.weights, start + i, self.image);
                m += 1;
            }
        }
    }
}

/// Grids that become pixels.
struct Develop<'a> {
    layers: &'a Layers,
    image: &'a mut Image,
    /// Space for a row of nodes.
    row: &'a mut [f64],
    maps: &'a mut [f64],
}

impl Task for Develop<'_> {
    #[inline(always)]
    fn run(self) {
        let columns = self.image.columns;
        let (nodes, dirty) = (&mut self.image.sums[..], &self.image.dirty[..]);
        match columns {
            1 => self.layers.develop::<1>(nodes, dirty, self.row, self.maps),
            2 => self.layers.develop::<2>(nodes, dirty, self.row, self.maps),
            3 => self.layers.develop::<3>(nodes, dirty, self.row, self.maps),
            4 => self.layers.develop::<4>(nodes, dirty, self.row, self.maps),
            5 => self.layers.develop::<5>(nodes, dirty, self.row, self.maps),
            _ => {
                // Column by column.
                let pixels = self.maps.len() / columns;
                let mut column = vec![0.0; nodes.len() / columns];
                for (c, map) in self.maps.chunks_exact_mut(pixels).enumerate() {
                    for (value, node) in column.iter_mut().zip(nodes.chunks_exact(columns)) {
                        *value = node[c];
                    }
                    self.layers.develop::<1>(&mut column, dirty, self.row, map);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
