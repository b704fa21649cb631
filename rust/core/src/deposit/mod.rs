//! Ways of putting particles into an image, a file each, from the fastest to the most accurate.
//!
//! A way sees the places of a batch, then the weights of its particles. One for cells with a size
//! sees that in [`Places`], too.

mod histogram;
mod smoothed;

pub(crate) use histogram::Histogram;
pub(crate) use smoothed::{Layered, Smoothed, reach_of_volumes};

use crate::Error;
use crate::batch::{BATCH, Places};
use crate::grid::Grid;
use crate::parallel::zeros;
use crate::simd::{Level, prefetch};
use rayon::prelude::*;

/// A way of putting particles into an image, with what it remembers of a batch.
///
/// What it does must depend on each particle alone, in order. Its functions must be
/// `#[inline(always)]`.
pub(crate) trait Deposit<G: Grid>: Default + Send + Sync {
    /// Sums that are kept for each column while particles are added.
    fn nodes(grid: &G) -> usize {
        grid.pixels()
    }

    /// How far a particle may reach that is seen, for those with a size.
    fn widest(grid: &G) -> f64 {
        let _ = grid;
        0.0
    }

    /// Takes the places of particles, whose weights come next: time to ask for their pixels.
    fn aim(&mut self, grid: &G, places: &Places<'_>, image: &Image);

    /// Adds the weights of these particles, a row for each column of sums; zero for those outside.
    fn add(&self, grid: &G, weights: &[[f64; BATCH]], image: &mut Image, level: Level);

    /// The pixels, one column after the other.
    fn develop(grid: &G, image: Image, level: Level) -> Result<Vec<f64>, Error> {
        let _ = level;
        image.planes(grid.pixels())
    }
}

/// Pixels after those of the picture, for particles outside: several, because additions to one wait
/// for each other.
const MARGIN: usize = 16;

/// Pixels that are cleared and merged together, only where a block has left something.
const TILE: usize = 32;

/// Tiles that a thread merges at a time.
const STRIPE: usize = 256;

/// An image in the making, its columns interleaved so that a particle touches one cache line.
pub(crate) struct Image {
    sums: Vec<f64>,
    columns: usize,
    dirty: Vec<bool>,
}

impl Image {
    pub(crate) fn new(pixels: usize, columns: usize) -> Result<Self, Error> {
        Ok(Self {
            sums: zeros((pixels + MARGIN) * columns)?,
            columns,
            dirty: vec![false; (pixels + MARGIN).div_ceil(TILE)],
        })
    }

    /// Asks for pixels that will be needed soon.
    #[inline(always)]
    fn prefetch(&self, pixels: &[u32]) {
        for &pixel in pixels {
            prefetch(&self.sums, pixel as usize * self.columns);
        }
    }

    pub(crate) fn clear(&mut self) {
        let tiles = self.sums.chunks_mut(TILE * self.columns);
        for (tile, dirty) in tiles.zip(&mut self.dirty) {
            if *dirty {
                tile.fill(0.0);
                *dirty = false;
            }
        }
    }

    /// Adds images of the same size, in order.
    pub(crate) fn merge(&mut self, images: &[&Self], parallel: bool) {
        let width = TILE * self.columns;
        let stripes = (&mut self.sums, &mut self.dirty);
        let stripe = |(k, (sums, dirty)): (usize, (&mut [f64], &mut [bool]))| {
            for image in images {
                let first = k * STRIPE;
                let tiles = image.sums[first * width..].chunks(width);
                let parts = sums.chunks_mut(width).zip(&mut *dirty);
                for (((sums, dirty), tile), &is_dirty) in
                    parts.zip(tiles).zip(&image.dirty[first..])
                {
                    if is_dirty {
                        for (sum, value) in sums.iter_mut().zip(tile) {
                            *sum += value;
                        }
                        *dirty = true;
                    }
                }
            }
        };
        if parallel {
            let sums = stripes.0.par_chunks_mut(STRIPE * width);
            sums.zip(stripes.1.par_chunks_mut(STRIPE))
                .enumerate()
                .for_each(stripe);
        } else {
            let sums = stripes.0.chunks_mut(STRIPE * width);
            sums.zip(stripes.1.chunks_mut(STRIPE))
                .enumerate()
                .for_each(stripe);
        }
    }

    /// The pixels of the picture, one column after the other.
    pub(crate) fn planes(mut self, pixels: usize) -> Result<Vec<f64>, Error> {
        if self.columns == 1 {
            self.sums.truncate(pixels);
            return Ok(self.sums);
        }
        let mut planes = zeros(pixels * self.columns)?;
        for (tile, _) in self.dirty.iter().enumerate().filter(|(_, dirty)| **dirty) {
            let range = tile * TILE..((tile + 1) * TILE).min(pixels);
            if range.is_empty() {
                continue;
            }
            let values = self.sums[range.start * self.columns..].chunks_exact(self.columns);
            for (pixel, values) in range.zip(values) {
                for (plane, value) in planes.chunks_exact_mut(pixels).zip(values) {
                    plane[pixel] = *value;
                }
            }
        }
        Ok(planes)
    }
}
