//! The grids that cells of different sizes are left on, and how they become one picture.

use std::ops::Range;

use super::kernel::spline_below;

/// Nodes around a picture, so that what reaches in from outside needs no test.
pub(crate) const MARGIN: usize = 7;

/// How much wider than the picture a cell may be, as a power of two, and still be seen: of a wider
/// one less than 1e-12 falls in.
const WIDEST: u32 = 20;

/// Rows and columns of nodes that are cleared and merged together; a stencil has less.
const TILE: [usize; 2] = [8, 32];

/// One grid.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Distance of nodes in pixels.
    pub(crate) pitch: f64,
    /// Rows (x) and columns (y).
    pub(crate) shape: [usize; 2],
    /// Number of the first node in all layers.
    pub(crate) first: usize,
    /// Number of the first tile in all layers.
    first_tile: usize,
    tiles: [usize; 2],
    /// Along each axis, share of a node's spline that lies in the picture.
    pub(crate) inside: [Vec<f64>; 2],
}

impl Layer {
    fn new(pitch: f64, bins: [usize; 2], first: usize, first_tile: usize) -> Self {
        let shape = bins.map(|n| (n as f64 / pitch).ceil() as usize + 1 + 2 * MARGIN);
        let inside = [0, 1].map(|axis| {
            (0..shape[axis])
                .map(|node| {
                    let knot = node as f64 - MARGIN as f64;
                    spline_below(bins[axis] as f64 / pitch - knot) - spline_below(-knot)
                })
                .collect()
        });
        Self {
            pitch,
            shape,
            first,
            first_tile,
            tiles: [0, 1].map(|axis| shape[axis].div_ceil(TILE[axis])),
            inside,
        }
    }

    pub(crate) fn nodes(&self) -> Range<usize> {
        self.first..self.first + self.shape[0] * self.shape[1]
    }

    fn end_tile(&self) -> usize {
        self.first_tile + self.tiles[0] * self.tiles[1]
    }

    /// The tile of a node.
    #[inline(always)]
    pub(crate) fn tile(&self, row: usize, column: usize) -> usize {
        self.first_tile + row / TILE[0] * self.tiles[1] + column / TILE[1]
    }

    /// Whether a stencil may leave something outside the picture.
    #[inline(always)]
    pub(crate) fn is_near(&self, low: [usize; 2]) -> bool {
        let near = |axis: usize| (low[axis] < MARGIN + 2) | (low[axis] + MARGIN + 8 > self.shape[axis]);
        near(0) | near(1)
    }

    /// Runs of nodes that stencils which began in touched tiles may have reached.
    pub(crate) fn reached<'a>(
        &'a self,
        touched: &'a [bool],
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let is_touched = |row: usize, column: usize| {
            touched[self.first_tile + row * self.tiles[1] + column]
        };
        (0..self.tiles[0]).flat_map(move |row| {
            (0..self.tiles[1]).flat_map(move |column| {
                let above = row.saturating_sub(1);
                let left = column.saturating_sub(1);
                let reached = is_touched(row, column)
                    | is_touched(above, column)
                    | is_touched(row, left)
                    | is_touched(above, left);
                let rows = row * TILE[0]..((row + 1) * TILE[0]).min(self.shape[0]);
                let rows = if reached { rows } else { 0..0 };
                let columns = column * TILE[1]..((column + 1) * TILE[1]).min(self.shape[1]);
                rows.map(move |row| {
                    let start = self.first + row * self.shape[1];
                    start + columns.start..start + columns.end
                })
            })
        })
    }

    pub(crate) fn is_touched(&self, touched: &[bool]) -> bool {
        touched[self.first_tile..self.end_tile()].contains(&true)
    }
}

/// All grids of a picture: pixels first, then splines whose knots are 1, sqrt 2, 2 ... pixels apart.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    pub(crate) bins: [usize; 2],
    pub(crate) pixels: Layer,
    pub(crate) splines: Vec<Layer>,
    /// Of the splines, one over the pitch.
    pub(crate) per_pitch: [f64; 64],
}

impl Layers {
    pub(crate) fn new(bins: [usize; 2]) -> Self {
        let pixels = Layer::new(1.0, bins, 0, 0);
        let count = 2 * (WIDEST + bins[0].max(bins[1]).ilog2()) as usize;
        let mut splines: Vec<Layer> = Vec::with_capacity(count);
        for k in 0..count {
            let whole = f64::from(1_u32 << (k / 2).min(31));
            let pitch = if k % 2 == 0 { whole } else { whole * std::f64::consts::SQRT_2 };
            let before = splines.last().unwrap_or(&pixels);
            splines.push(Layer::new(pitch, bins, before.nodes().end, before.end_tile()));
        }
        let mut per_pitch = [0.0; 64];
        for (per, layer) in per_pitch.iter_mut().zip(&splines) { *per = 1.0 / layer.pitch; }
        Self {
            bins,
            pixels,
            splines,
            per_pitch,
        }
    }

    /// Nodes in all layers.
    pub(crate) fn nodes(&self) -> usize {
        self.splines.last().unwrap_or(&self.pixels).nodes().end
    }

    /// Tiles in all layers.
    pub(crate) fn tiles(&self) -> usize {
        self.splines.last().unwrap_or(&self.pixels).end_tile()
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.pixels).chain(&self.splines)
    }
}

/// Most coarse nodes that a fine one gets something of.
const MOST: usize = 6;

/// Along one axis, what each node of a finer grid gets of those of a coarser one.
pub(crate) struct Resampling(Vec<(usize, [f64; MOST])>);

impl Resampling {
    /// From knots to knots at half the distance.
    pub(crate) fn halved(coarse: usize, fine: usize) -> Self {
        const HALF: [f64; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
        // node - MARGIN = 2 (from - MARGIN) + k, k from -2 to 2
        let share = |node: usize, from: usize| {
            HALF.get((node + MARGIN + 2).wrapping_sub(2 * from)).copied().unwrap_or(0.0)
        };
        Self::of(coarse, fine, |node| (node + MARGIN) / 2 - 1, share)
    }

    /// From knots to pixels.
    pub(crate) fn binned(knots: usize, pitch: f64, bins: usize) -> Self {
        let share = |bin: usize, node: usize| {
            let knot = node as f64 - MARGIN as f64;
            spline_below((bin + 1) as f64 / pitch - knot) - spline_below(bin as f64 / pitch - knot)
        };
        // Splines reach two knots far.
        let first = |bin: usize| ((bin as f64 / pitch).floor() as usize + MARGIN).saturating_sub(1);
        Self::of(knots, bins, first, share)
    }

    fn of(
        coarse: usize,
        fine: usize,
        first: impl Fn(usize) -> usize,
        share: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let row = |node: usize| {
            let first = first(node).min(coarse - MOST);
            (first, std::array::from_fn(|k| share(node, first + k)))
        };
        Self((0..fine).map(row).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a coarse grid of `columns` columns to a fine one.
    #[inline(always)]
    pub(crate) fn add<const L: usize>(x: &Self, y: &Self, coarse: &[[f64; L]], columns: usize, fine: &mut [[f64; L]]) {
        let mut row = vec![[0.0; L]; columns];
        for ((first, weights), fine) in x.0.iter().zip(fine.chunks_exact_mut(y.len())) {
            let coarse: [&[[f64; L]]; MOST] = std::array::from_fn(|k| &coarse[(first + k) * columns..][..columns]);
            for (j, node) in row.iter_mut().enumerate() {
                for c in 0..L {
                    let mut sum = 0.0;
                    for k in 0..MOST { sum += weights[k] * coarse[k][j][c]; }
                    node[c] = sum;
                }
            }
            for ((first, weights), fine) in y.0.iter().zip(fine) {
                let nodes = &row[*first..][..MOST];
                for c in 0..L {
                    let mut sum = fine[c];
                    for k in 0..MOST { sum += weights[k] * nodes[k][c]; }
                    fine[c] = sum;
                }
            }
        }
    }
}
