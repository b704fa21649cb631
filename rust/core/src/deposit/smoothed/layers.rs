//! The grids that cells of different sizes are left on, and how they become one picture.

use std::ops::Range;

use super::super::TILE;
use super::kernel::spline_below;
use super::taps::LEAST;

/// Nodes around a picture, so that what reaches in from outside needs no test.
pub(crate) const MARGIN: usize = 7;

/// How much farther than the picture is wide a cell may reach, as a power of two: of one that
/// reaches farther less than 1e-12 falls in.
pub(crate) const WIDEST: u32 = 20;

/// One grid.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Distance of nodes in pixels.
    pitch: f64,
    /// One over it.
    pub(crate) per_pitch: f64,
    /// Nodes along x and y.
    pub(crate) shape: [usize; 2],
    /// Number of the first node in all layers.
    pub(crate) first: usize,
    /// Along each axis, share of a node's spline that lies in the picture.
    pub(crate) inside: [Vec<f64>; 2],
}

impl Layer {
    fn new(pitch: f64, bins: [usize; 2], first: usize) -> Self {
        let shape = bins.map(|n| (n as f64 / pitch).ceil() as usize + 1 + 2 * MARGIN);
        let share = |axis: usize, node: usize| {
            let knot = node as f64 - MARGIN as f64;
            spline_below(bins[axis] as f64 / pitch - knot) - spline_below(-knot)
        };
        Self {
            pitch,
            per_pitch: 1.0 / pitch,
            shape,
            first,
            inside: [0, 1].map(|axis| (0..shape[axis]).map(|node| share(axis, node)).collect()),
        }
    }

    fn nodes(&self) -> Range<usize> {
        self.first..self.first + self.shape[0] * self.shape[1]
    }

    /// Whether splines from a node on may leave something outside the picture.
    #[inline(always)]
    pub(crate) fn is_near(&self, low: [usize; 2]) -> bool {
        let near =
            |axis: usize| (low[axis] < MARGIN + 2) | (low[axis] + MARGIN + 8 > self.shape[axis]);
        near(0) | near(1)
    }

    fn is_touched(&self, dirty: &[bool]) -> bool {
        let nodes = self.nodes();
        dirty[nodes.start / TILE..nodes.end.div_ceil(TILE)].contains(&true)
    }
}

/// All grids of a picture: pixels, and splines whose knots are 1, sqrt 2, 2 ... pixels apart.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) bins: [usize; 2],
    pub(crate) pixels: Layer,
    pub(crate) splines: Vec<Layer>,
}

impl Layers {
    pub(crate) fn new(bins: [usize; 2]) -> Self {
        // A layer starts where a tile does.
        let next = |layer: &Layer| layer.nodes().end.next_multiple_of(TILE);
        let pixels = Layer::new(1.0, bins, 0);
        let count = 2 * (WIDEST + 1 + bins[0].max(bins[1]).ilog2()) as usize;
        let mut splines: Vec<Layer> = Vec::with_capacity(count);
        let mut pitch = 1.0;
        for k in 0..count {
            let first = next(splines.last().unwrap_or(&pixels));
            let odd = if k % 2 == 0 {
                1.0
            } else {
                std::f64::consts::SQRT_2
            };
            splines.push(Layer::new(pitch * odd, bins, first));
            pitch *= if k % 2 == 0 { 1.0 } else { 2.0 };
        }
        Self {
            bins,
            pixels,
            splines,
        }
    }

    /// Nodes in all layers.
    pub(crate) fn nodes(&self) -> usize {
        self.splines.last().unwrap_or(&self.pixels).nodes().end
    }

    /// Number of the spline layer of a squared reach, which is some times the least of that layer.
    #[inline(always)]
    pub(crate) fn layer_of(&self, reach2: f64) -> (usize, f64) {
        const MANTISSA: u64 = (1 << 52) - 1;
        let bits = (reach2 * (1.0 / LEAST)).to_bits();
        let number = ((bits >> 52) as usize).saturating_sub(1023);
        let ratio = f64::from_bits((bits & MANTISSA) | 1.0_f64.to_bits());
        (number.min(self.splines.len() - 1), ratio)
    }

    /// Makes maps, one column after the other, of nodes whose columns are interleaved.
    #[inline(always)]
    pub(crate) fn develop<const L: usize>(
        &self,
        nodes: &mut [f64],
        dirty: &[bool],
        row: &mut [f64],
        maps: &mut [f64],
    ) {
        let nodes = nodes.as_chunks_mut::<L>().0;
        let row = row.as_chunks_mut::<L>().0;
        let mut touched: Vec<_> = self.splines.iter().map(|l| l.is_touched(dirty)).collect();
        for k in (2..self.splines.len()).rev().filter(|k| *k > 1) {
            if !touched[k] {
                continue;
            }
            touched[k - 2] = true;
            let (coarse, fine) = (&self.splines[k], &self.splines[k - 2]);
            let axes = [0, 1].map(|axis| Resampling::halved(coarse.shape[axis], fine.shape[axis]));
            let (low, high) = nodes.split_at_mut(coarse.first);
            let coarse = Coarse {
                nodes: high,
                columns: coarse.shape[1],
            };
            let fine = &mut low[fine.nodes()];
            let width = axes[1].0.len();
            coarse.refine(&axes, row, |x, y, value| {
                let node = &mut fine[x * width + y];
                for c in 0..L {
                    node[c] += value[c];
                }
            });
        }
        let [wide, high] = self.bins;
        let pixels = wide * high;
        for x in 0..wide {
            let start = (x + MARGIN) * self.pixels.shape[1] + MARGIN;
            for c in 0..L {
                let map = &mut maps[c * pixels + x * high..][..high];
                for (pixel, node) in map.iter_mut().zip(&nodes[start..]) {
                    *pixel = node[c];
                }
            }
        }
        for (layer, _) in self
            .splines
            .iter()
            .zip(&touched)
            .take(2)
            .filter(|(_, t)| **t)
        {
            let axes = [0, 1].map(|axis| Resampling::binned(layer, axis, self.bins[axis]));
            let coarse = Coarse {
                nodes: &nodes[layer.nodes()],
                columns: layer.shape[1],
            };
            coarse.refine(&axes, row, |x, y, value| {
                for c in 0..L {
                    maps[c * pixels + x * high + y] += value[c];
                }
            });
        }
    }
}

/// Most coarse nodes that a fine one gets something of.
const MOST: usize = 6;

/// Along one axis, what each node of a finer grid gets of those of a coarser one.
struct Resampling(Vec<(usize, [f64; MOST])>);

impl Resampling {
    /// From knots to knots at half the distance.
    fn halved(coarse: usize, fine: usize) -> Self {
        const HALF: [f64; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
        // node - MARGIN = 2 (from - MARGIN) + k, k from -2 to 2
        let share = |node: usize, from: usize| {
            let k = (node + MARGIN + 2).wrapping_sub(2 * from);
            HALF.get(k).copied().unwrap_or(0.0)
        };
        Self::new(coarse, fine, |node| (node + MARGIN) / 2 - 1, share)
    }

    /// From knots to pixels.
    fn binned(layer: &Layer, axis: usize, bins: usize) -> Self {
        let pitch = layer.pitch;
        let share = |bin: usize, node: usize| {
            let knot = node as f64 - MARGIN as f64;
            spline_below((bin + 1) as f64 / pitch - knot) - spline_below(bin as f64 / pitch - knot)
        };
        // Splines reach two knots far.
        let first = |bin: usize| (bin as f64 / pitch) as usize + MARGIN - 1;
        Self::new(layer.shape[axis], bins, first, share)
    }

    fn new(
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
}

/// A grid that becomes a finer one.
struct Coarse<'a, const L: usize> {
    nodes: &'a [[f64; L]],
    columns: usize,
}

impl<const L: usize> Coarse<'_, L> {
    /// Hands over node after node of the finer grid.
    #[inline(always)]
    fn refine(
        &self,
        axes: &[Resampling; 2],
        space: &mut [[f64; L]],
        mut take: impl FnMut(usize, usize, [f64; L]),
    ) {
        let row = &mut space[..self.columns];
        for (x, (first, shares)) in axes[0].0.iter().enumerate() {
            row.fill([0.0; L]);
            for (k, share) in shares.iter().enumerate() {
                let nodes = &self.nodes[(first + k) * self.columns..][..self.columns];
                for (sum, node) in row.as_flattened_mut().iter_mut().zip(nodes.as_flattened()) {
                    *sum += share * node;
                }
            }
            for (y, (first, shares)) in axes[1].0.iter().enumerate() {
                let mut value = [0.0; L];
                for (node, share) in row[*first..][..MOST].iter().zip(shares) {
                    for c in 0..L {
                        value[c] += share * node[c];
                    }
                }
                take(x, y, value);
            }
        }
    }
}
