//! A particle is a point: its weights go to the pixel that it lies in.

use super::{Deposit, Image, MARGIN, TILE};
use crate::batch::{BATCH, Places};
use crate::grid::Grid;
use crate::simd::Level;

/// The pixels of a batch.
pub(crate) struct Histogram {
    pixels: [u32; BATCH],
    len: usize,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            pixels: [0; BATCH],
            len: 0,
        }
    }
}

impl<G: Grid> Deposit<G> for Histogram {
    #[inline(always)]
    fn aim(&mut self, grid: &G, places: &Places<'_>, image: &Image) {
        self.len = places.x.len();
        let pixels = &mut self.pixels[..self.len];
        grid.locate(places, pixels);
        if let Some(inside) = places.inside {
            let margin = grid.pixels() as u32;
            for (i, (pixel, &inside)) in pixels.iter_mut().zip(inside).enumerate() {
                let outside = margin + i as u32 % MARGIN as u32;
                let inside = (inside as u32).wrapping_neg();
                *pixel = (*pixel & inside) | (outside & !inside);
            }
        }
        image.prefetch(pixels);
    }

    #[inline(always)]
    fn add(&self, _: &G, weights: &[[f64; BATCH]], image: &mut Image, _: Level) {
        let (sums, dirty) = (&mut image.sums[..], &mut image.dirty[..]);
        let pixels = &self.pixels[..self.len];
        match weights.len() {
            1 => scatter::<1>(sums, dirty, pixels, weights),
            2 => scatter::<2>(sums, dirty, pixels, weights),
            3 => scatter::<3>(sums, dirty, pixels, weights),
            4 => scatter::<4>(sums, dirty, pixels, weights),
            5 => scatter::<5>(sums, dirty, pixels, weights),
            6 => scatter::<6>(sums, dirty, pixels, weights),
            _ => scatter_any(sums, dirty, pixels, weights),
        }
    }
}

#[inline(always)]
fn scatter<const N: usize>(
    image: &mut [f64],
    dirty: &mut [bool],
    pixels: &[u32],
    weights: &[[f64; BATCH]],
) {
    let (image, _) = image.as_chunks_mut::<N>();
    let Some(weights) = weights.first_chunk::<N>() else {
        return;
    };
    let weights: [&[f64]; N] = std::array::from_fn(|c| &weights[c][..pixels.len()]);
    for (i, &pixel) in pixels.iter().enumerate() {
        let sums = &mut image[pixel as usize];
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum += weights[i];
        }
        dirty[pixel as usize / TILE] = true;
    }
}

#[inline(always)]
fn scatter_any(image: &mut [f64], dirty: &mut [bool], pixels: &[u32], weights: &[[f64; BATCH]]) {
    let count = weights.len();
    for (i, &pixel) in pixels.iter().enumerate().take(BATCH) {
        let sums = &mut image[pixel as usize * count..][..count];
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum += weights[i];
        }
        dirty[pixel as usize / TILE] = true;
    }
}
