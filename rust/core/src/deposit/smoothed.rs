//! Cells with a size: each is spread over a cubic spline, and none of it is lost.
//!
//! The spline of a cell is taken as the product of its profiles along x and y, so that its share of
//! a pixel is exact wherever one edge cuts it, however small it is. Cells of up to three pixels go
//! to pixels; larger ones are written in B-splines of a grid as coarse as they are, 5 x 5 whatever
//! their size, and the grids become pixels at the end.

mod kernel;
mod layers;
mod taps;

use crate::accumulate::BATCH;
use crate::simd::{Level, Task, truncate};
use crate::Error;
use crate::parallel::zeros;
use kernel::below;
use layers::{Layer, Layers, MARGIN, Resampling};
use taps::{FITTED, LEAST, TAPS};

/// Cells in reach of a picture.
pub struct Cells<'a> {
    /// Distance from the picture's low edge in pixels.
    pub x: &'a [f64],
    /// The same along y.
    pub y: &'a [f64],
    /// Support in pixels, squared.
    pub support2: &'a [f64],
}

/// What is left on the grids, their nodes with channels interleaved.
pub struct Left {
    nodes: Vec<f64>,
    touched: Vec<bool>,
}

/// A way of depositing.
pub struct Smoothed {
    layers: Layers,
    lanes: usize,
    level: Level,
}

/// Smallest support: what is smaller is a point.
const POINT2: f64 = 1e-20;

impl Smoothed {
    /// For pictures of so many bins and channels.
    #[must_use]
    pub fn new(bins: [usize; 2], channels: usize) -> Self {
        let lanes = channels.min(4);
        Self { layers: Layers::new(bins), lanes, level: Level::best() }
    }

    /// With these vector instructions.
    #[must_use]
    pub fn with_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Empty grids.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn empty(&self) -> Result<Left, Error> {
        Ok(Left { nodes: zeros(self.layers.nodes() * self.lanes + 4)?, touched: vec![false; self.layers.tiles()] })
    }

    /// Leaves up to a batch of cells.
    pub fn spread(&self, left: &mut Left, cells: &Cells<'_>, weights: &[&[f64]]) {
        self.level.run(Spread { plan: self, left, cells, weights });
    }

    /// Adds.
    pub fn merge(&self, total: &mut Left, part: &mut Left) {
        for layer in self.layers.each() {
            if !layer.is_touched(&part.touched) { continue; }
            for run in layer.reached(&part.touched) {
                let run = run.start * self.lanes..run.end * self.lanes;
                for (sum, value) in total.nodes[run.clone()].iter_mut().zip(&mut part.nodes[run]) {
                    *sum += *value;
                    *value = 0.0;
                }
            }
        }
        for (a, b) in total.touched.iter_mut().zip(&mut part.touched) { *a |= *b; *b = false; }
    }

    /// The picture.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn develop(&self, mut left: Left) -> Result<Vec<f64>, Error> {
        let bins = self.layers.bins;
        let mut image = zeros(bins[0] * bins[1] * self.lanes)?;
        self.level.run(Develop { plan: self, left: &mut left, image: &mut image });
        Ok(image)
    }
}

struct Develop<'a> {
    plan: &'a Smoothed,
    left: &'a mut Left,
    image: &'a mut [f64],
}

impl Task for Develop<'_> {
    #[inline(always)]
    fn run(self) {
        match self.plan.lanes {
            1 => self.lanes::<1>(),
            2 => self.lanes::<2>(),
            3 => self.lanes::<3>(),
            _ => self.lanes::<4>(),
        }
    }
}

impl Develop<'_> {
    #[inline(always)]
    fn lanes<const L: usize>(self) {
        let Self { plan, left, image } = self;
        let splines = &plan.layers.splines;
        let (nodes, _) = left.nodes.as_chunks_mut::<L>();
        let (image, _) = image.as_chunks_mut::<L>();
        let mut touched: Vec<bool> = splines.iter().map(|l| l.is_touched(&left.touched)).collect();
        for k in (2..splines.len()).rev() {
            if !touched[k] { continue; }
            touched[k - 2] = true;
            let (coarse, fine) = (&splines[k], &splines[k - 2]);
            let (low, high) = nodes.split_at_mut(coarse.first);
            let axes = [0, 1].map(|axis| Resampling::halved(coarse.shape[axis], fine.shape[axis]));
            Resampling::add(&axes[0], &axes[1], &high[..coarse.nodes().len()], coarse.shape[1], &mut low[fine.nodes()]);
        }
        let columns = plan.layers.pixels.shape[1];
        for (row, pixels) in image.chunks_exact_mut(plan.layers.bins[1]).enumerate() {
            let start = (row + MARGIN) * columns + MARGIN;
            pixels.copy_from_slice(&nodes[start..][..pixels.len()]);
        }
        for k in [0, 1] {
            if !touched[k] { continue; }
            let layer = &splines[k];
            let axes = [0, 1].map(|axis| Resampling::binned(layer.shape[axis], layer.pitch, plan.layers.bins[axis]));
            Resampling::add(&axes[0], &axes[1], &nodes[layer.nodes()], layer.shape[1], image);
        }
    }
}

struct Spread<'a> {
    plan: &'a Smoothed,
    left: &'a mut Left,
    cells: &'a Cells<'a>,
    weights: &'a [&'a [f64]],
}

impl Task for Spread<'_> {
    #[inline(always)]
    fn run(self) {
        match self.plan.lanes {
            1 => self.lanes::<1, 4, 4, 8, 8, 8>(),
            2 => self.lanes::<2, 8, 8, 12, 12, 16>(),
            3 => self.lanes::<3, 12, 12, 16, 20, 24>(),
            _ => self.lanes::<4, 12, 16, 20, 24, 28>(),
        }
    }
}

/// Number of the spline layer of a cell, and its squared support over the least of that layer.
#[inline(always)]
fn layer_of(support2: f64) -> (u32, f64) {
    let bits = (support2 * (1.0 / LEAST)).to_bits();
    let ratio = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    ((bits >> 52) as u32 - 1023, ratio)
}

/// Cells handled at a time.
const FEW: usize = 64;

/// Most pixels along an axis that a cell without splines reaches.
const WIDE: usize = 7;

/// Squared support up to which a cell reaches four pixels at most.
const TINY: f64 = 2.25;

/// Some cells, as their shares of nodes along both axes.
struct Shares<const N: usize> {
    rows: [[f64; FEW]; N],
    columns: [[f64; FEW]; N],
    first: [u32; FEW],
}

impl<const N: usize> Default for Shares<N> {
    fn default() -> Self {
        Self { rows: [[0.0; FEW]; N], columns: [[0.0; FEW]; N], first: [0; FEW] }
    }
}

/// Which of some cells, in their order.
struct Picked {
    at: [u8; FEW],
    len: usize,
}

impl Picked {
    #[inline(always)]
    fn new(support2: &[f64], pick: impl Fn(f64) -> bool) -> Self {
        let mut picked = Self { at: [0; FEW], len: 0 };
        for (i, s2) in support2.iter().enumerate() {
            picked.at[picked.len % FEW] = i as u8;
            picked.len += usize::from(pick(*s2));
        }
        picked
    }

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.at[..self.len.min(FEW)].iter().map(|i| usize::from(*i) % FEW)
    }

    #[inline(always)]
    fn load(&self, values: &[f64]) -> [f64; FEW] {
        let mut loaded = [1.0; FEW];
        for (loaded, i) in loaded.iter_mut().zip(self.iter()) {
            *loaded = values[i];
        }
        loaded
    }
}

impl<const N: usize> Shares<N> {
    /// Exact shares of pixels.
    #[inline(always)]
    fn pixels(&mut self, layer: &Layer, cells: &Cells<'_>, picked: &Picked) {
        let n = picked.len.min(FEW);
        let places = [picked.load(cells.x), picked.load(cells.y)];
        let (mut support, mut per) = (picked.load(cells.support2), [0.0; FEW]);
        for k in 0..n {
            support[k] = support[k].max(POINT2).sqrt();
            per[k] = 1.0 / support[k];
        }
        self.first = [0; FEW];
        for (axis, place) in places.iter().enumerate() {
            let stride = if axis == 0 { layer.shape[1] as u32 } else { 1 };
            let shares = if axis == 0 { &mut self.rows } else { &mut self.columns };
            let mut edge = [0.0; FEW];
            for k in 0..n {
                let low = truncate(place[k] - support[k] + MARGIN as f64);
                self.first[k] += low * stride;
                edge[k] = f64::from(low) - MARGIN as f64 - place[k];
            }
            for t in 0..N - 1 {
                let out = &mut shares[t];
                for k in 0..n {
                    out[k] = below((edge[k] + (t + 1) as f64) * per[k]);
                }
            }
            shares[N - 1] = [1.0; FEW];
            for t in (1..N).rev() {
                for k in 0..n {
                    shares[t][k] = (shares[t][k] - shares[t - 1][k]).max(0.0);
                }
            }
        }
    }
}

impl Shares<TAPS> {
    /// Shares of splines.
    #[inline(always)]
    fn splines(&mut self, layers: &Layers, cells: &Cells<'_>, picked: &Picked, columns: &mut [u32; FEW], touched: &mut [bool]) {
        let shares = self;
        let fitted = &*FITTED;
        let (mut x, mut y) = (picked.load(cells.x), picked.load(cells.y));
        let mut ratio = picked.load(cells.support2);
        let mut number = [0_u32; FEW];
        let n = picked.len.min(FEW);
        for k in 0..n {
            (number[k], ratio[k]) = layer_of(ratio[k]);
        }
        for k in 0..n {
            let per_pitch = layers.per_pitch[number[k] as usize % 64];
            x[k] = x[k] * per_pitch + (MARGIN as f64 + 0.5);
            y[k] = y[k] * per_pitch + (MARGIN as f64 + 0.5);
        }
        let (mut row, mut column) = ([0_u32; FEW], [0_u32; FEW]);
        for k in 0..n {
            row[k] = truncate(x[k]);
            column[k] = truncate(y[k]);
            let offsets = [x[k] - 0.5 - f64::from(row[k]), y[k] - 0.5 - f64::from(column[k])];
            let [a, b] = fitted.at(ratio[k], offsets);
            for t in 0..TAPS {
                shares.rows[t][k] = a[t];
                shares.columns[t][k] = b[t];
            }
        }
        for (k, i) in picked.iter().enumerate() {
            let layer = &layers.splines[number[k] as usize];
            let low = [row[k] as usize - TAPS / 2, column[k] as usize - TAPS / 2];
            shares.first[k] = (layer.first + low[0] * layer.shape[1] + low[1]) as u32;
            columns[k] = layer.shape[1] as u32;
            touched[layer.tile(low[0], low[1])] = true;
            if layer.is_near(low) {
                let s = cells.support2[i].sqrt();
                for (axis, (place, taps)) in [(cells.x[i], &mut shares.rows), (cells.y[i], &mut shares.columns)].into_iter().enumerate() {
                    if place >= s && place + s <= layers.bins[axis] as f64 {
                        let inside = &layer.inside[axis][low[axis]..][..TAPS];
                        let mut norm = 0.0;
                        for t in 0..TAPS { norm += taps[t][k] * inside[t]; }
                        for taps in taps.iter_mut() { taps[k] /= norm; }
                    }
                }
            }
        }
    }
}

impl<const N: usize> Shares<N> {
    /// Leaves the first of the nodes of one cell.
    #[inline(always)]
    fn leave<const M: usize, const W: usize, const L: usize>(&self, k: usize, nodes: &mut [f64], columns: usize, held: &[f64; L]) {
        let mut row = [0.0; W];
        for t in 0..M {
            for c in 0..L { row[t * L + c] = held[c] * self.columns[t][k]; }
        }
        let first = self.first[k] as usize;
        for t in 0..M {
            let share = self.rows[t][k];
            let nodes = &mut nodes[(first + t * columns) * L..][..W];
            for (node, value) in nodes.iter_mut().zip(&row) { *node += share * value; }
        }
    }
}

impl Spread<'_> {
    #[inline(always)]
    fn lanes<const L: usize, const W3: usize, const W4: usize, const W5: usize, const W6: usize, const W7: usize>(self) {
        let Self { plan, left, cells, weights } = self;
        let n = cells.x.len().min(BATCH);
        let (mut splines, mut tiny, mut middle) = (Shares::<TAPS>::default(), Shares::<4>::default(), Shares::<WIDE>::default());
        for start in (0..n).step_by(FEW) {
            let end = (start + FEW).min(n);
            let few = Cells { x: &cells.x[start..end], y: &cells.y[start..end], support2: &cells.support2[start..end] };
            let mut held = [[0.0; L]; FEW];
            for (c, weights) in weights.iter().enumerate().take(L) {
                for (held, weight) in held.iter_mut().zip(&weights[start..end]) { held[c] = *weight; }
            }
            let nodes = &mut left.nodes[..];
            let large = Picked::new(few.support2, |s2| s2 >= LEAST);
            let mut columns = [0; FEW];
            splines.splines(&plan.layers, &few, &large, &mut columns, &mut left.touched);
            for (k, i) in large.iter().enumerate() {
                splines.leave::<TAPS, W5, L>(k, nodes, columns[k] as usize, &held[i]);
            }
            let layer = &plan.layers.pixels;
            let columns = layer.shape[1];
            tiny.pixels(layer, &few, &Picked::new(few.support2, |s2| s2 <= TINY));
            middle.pixels(layer, &few, &Picked::new(few.support2, |s2| (s2 > TINY) & (s2 < LEAST)));
            let small = Picked::new(few.support2, |s2| s2 < LEAST);
            let (mut t, mut m) = (0, 0);
            for i in small.iter() {
                let held = &held[i];
                let s2 = few.support2[i];
                let first = if s2 <= TINY {
                    let k = t % FEW;
                    t += 1;
                    if s2 <= 1.0 {
                        tiny.leave::<3, W3, L>(k, nodes, columns, held);
                    } else {
                        tiny.leave::<4, W4, L>(k, nodes, columns, held);
                    }
                    tiny.first[k]
                } else {
                    let k = m % FEW;
                    m += 1;
                    if s2 <= 4.0 {
                        middle.leave::<5, W5, L>(k, nodes, columns, held);
                    } else if s2 <= 6.25 {
                        middle.leave::<6, W6, L>(k, nodes, columns, held);
                    } else {
                        middle.leave::<7, W7, L>(k, nodes, columns, held);
                    }
                    middle.first[k]
                } as usize;
                left.touched[layer.tile(first / columns, first % columns)] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
