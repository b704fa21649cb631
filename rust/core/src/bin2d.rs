//! Sums of weights over the pixels of a grid, the same bits for any number of threads.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::check_length;
use crate::parallel::{block, count_blocks, zeros};
use crate::{Error, Threads};

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

/// The weights of one channel of a map; channels may differ in type.
#[derive(Clone, Copy, Debug)]
pub enum Channel<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl Channel<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(weights) => weights.len(),
            Self::F64(weights) => weights.len(),
        }
    }
}

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

    fn pixels(&self) -> usize {
        self.bins[0] * self.bins[1]
    }

    #[inline(always)]
    fn contains(&self, axis: usize, value: f64) -> bool {
        (value >= self.low[axis]) & (value < self.high[axis])
    }

    /// Bin of a value in range. The quotient may round up to 1 and the product to `bins`.
    #[inline(always)]
    fn bin(&self, axis: usize, value: f64) -> u32 {
        let low = self.low[axis];
        let bins = self.bins[axis];
        let bin = (value - low) / (self.high[axis] - low) * self.scale * bins as f64;
        (bin as i32).min(bins as i32 - 1) as u32
    }

    /// Pixels of the particles of a batch, x the slow axis.
    #[inline]
    fn locate(&self, batch: &Batch, pixels: &mut [u32; BATCH]) {
        let rows = self.bins[1] as u32;
        let positions = batch.x.iter().zip(&batch.y).take(batch.len);
        for (pixel, (&x, &y)) in pixels.iter_mut().zip(positions) {
            *pixel = self.bin(0, x) * rows + self.bin(1, y);
        }
    }
}

/// Particles handled at a time: their positions and weights stay in the first-level cache.
const BATCH: usize = 256;

/// The particles in the picture among up to [`BATCH`] consecutive ones.
pub(crate) struct Batch {
    x: [f64; BATCH],
    y: [f64; BATCH],
    at: [u8; BATCH],
    len: usize,
    bad: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            x: [0.0; BATCH],
            y: [0.0; BATCH],
            at: [0; BATCH],
            len: 0,
            bad: 0,
        }
    }
}

impl Batch {
    /// A block in pieces that a batch can take.
    pub(crate) fn ranges(block: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let end = block.end;
        block
            .step_by(BATCH)
            .map(move |start| start..(start + BATCH).min(end))
    }

    /// Which particles are in, counted from the start of the batch.
    pub(crate) fn at(&self) -> &[u8] {
        &self.at[..self.len]
    }

    /// Takes (x, y, in the picture, finite) of up to [`BATCH`] particles, keeps those inside.
    #[inline(always)]
    pub(crate) fn fill(&mut self, particles: impl Iterator<Item = (f64, f64, bool, bool)>) {
        let mut len = 0;
        let mut bad = 0;
        for (at, (x, y, inside, finite)) in particles.enumerate() {
            // Always written, kept by moving on: no branch to mispredict.
            let slot = len % BATCH;
            self.x[slot] = x;
            self.y[slot] = y;
            self.at[slot] = at as u8;
            len += usize::from(inside);
            bad += usize::from(!finite);
        }
        self.len = len.min(BATCH);
        self.bad = bad;
    }
}

/// Particles with a place in a picture.
pub(crate) trait Gather: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Those of `range` in the picture.
    fn gather(&self, range: Range<usize>, batch: &mut Batch);
}

/// A compensated sum (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let total = self.high + value;
        let lost = if self.high.abs() >= value.abs() {
            (self.high - total) + value
        } else {
            (value - total) + self.high
        };
        // Once the sum has overflowed, the correction is NaN.
        if total.is_finite() {
            self.low += lost;
        }
        self.high = total;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.high);
        self.add(other.low);
    }

    fn value(self) -> f64 {
        self.high + self.low
    }
}

/// A plain sum in eight parts, fast and with a fixed grouping.
#[inline]
fn sum_lanes(values: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    lanes.iter().sum()
}

/// What happened to one channel.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    bad: usize,
    read: Sum,
    in_frame: Sum,
}

/// Weights as doubles, zero for those that are not finite; the number of those.
#[inline]
fn load<T: Real>(weights: &[T], buffer: &mut [f64; BATCH]) -> usize {
    let mut bad = 0;
    for (slot, &weight) in buffer.iter_mut().zip(weights) {
        let finite = weight.is_finite();
        *slot = if finite { weight.wide() } else { 0.0 };
        bad += usize::from(!finite);
    }
    bad
}

/// Pixels that are cleared and merged together, only where a block has left something.
const TILE: usize = 32;

/// Tiles that a thread merges at a time.
const STRIPE: usize = 256;

/// Most values in all partial images together (1 GiB).
const MOST_PARTIAL: usize = 1 << 27;

/// The image of one block, its channels interleaved so that a particle touches one cache line.
struct Partial {
    image: Vec<f64>,
    dirty: Vec<bool>,
    in_frame: usize,
    bad: usize,
    tallies: Vec<Tally>,
}

impl Partial {
    fn new(pixels: usize, channels: usize) -> Result<Self, Error> {
        Ok(Self {
            image: zeros(pixels * channels)?,
            dirty: vec![false; pixels.div_ceil(TILE)],
            in_frame: 0,
            bad: 0,
            tallies: vec![Tally::default(); channels],
        })
    }

    fn clear(&mut self) {
        let tiles = self.image.chunks_mut(TILE * self.tallies.len());
        for (tile, dirty) in tiles.zip(&mut self.dirty) {
            if *dirty {
                tile.fill(0.0);
                *dirty = false;
            }
        }
        self.in_frame = 0;
        self.bad = 0;
        self.tallies.fill(Tally::default());
    }

    fn fill(
        &mut self,
        particles: &impl Gather,
        block: Range<usize>,
        channels: &[Channel<'_>],
        grid: &Grid,
    ) {
        self.clear();
        let count = channels.len();
        let (image, dirty) = (&mut self.image[..], &mut self.dirty[..]);
        // Locals, because partial images lie side by side and their threads would share lines.
        let (mut in_frame, mut bad) = (0, 0);
        let mut batch = Batch::default();
        let mut pixels = [0; BATCH];
        let mut weights = [0.0; BATCH];
        let mut inside = [0.0; BATCH];
        for range in Batch::ranges(block) {
            particles.gather(range.clone(), &mut batch);
            in_frame += batch.len;
            bad += batch.bad;
            grid.locate(&batch, &mut pixels);
            let pixels = &pixels[..batch.len];
            for &pixel in pixels {
                dirty[pixel as usize / TILE] = true;
            }
            for (c, (channel, tally)) in channels.iter().zip(&mut self.tallies).enumerate() {
                tally.bad += match channel {
                    Channel::F32(values) => load(&values[range.clone()], &mut weights),
                    Channel::F64(values) => load(&values[range.clone()], &mut weights),
                };
                tally.read.add(sum_lanes(&weights[..range.len()]));
                for (slot, &at) in inside.iter_mut().zip(batch.at()) {
                    *slot = weights[usize::from(at)];
                }
                let inside = &inside[..batch.len];
                tally.in_frame.add(sum_lanes(inside));
                for (&pixel, &weight) in pixels.iter().zip(inside) {
                    image[pixel as usize * count + c] += weight;
                }
            }
        }
        self.in_frame = in_frame;
        self.bad = bad;
    }
}

/// Adds the partial images to the part of the total that starts at tile `first`, in order.
fn merge(total: &mut [f64], first: usize, partials: &[Partial], width: usize) {
    for partial in partials {
        let tiles = partial.image[first * width..].chunks(width);
        let parts = total.chunks_mut(width).zip(tiles);
        for ((sum, tile), &dirty) in parts.zip(&partial.dirty[first..]) {
            if dirty {
                for (sum, value) in sum.iter_mut().zip(tile) {
                    *sum += value;
                }
            }
        }
    }
}

/// The picture and the books of [`accumulate`].
pub(crate) struct Summed {
    /// Channel by channel, x the slow axis.
    pub(crate) maps: Vec<f64>,
    pub(crate) in_frame: usize,
    pub(crate) bad_coordinates: usize,
    pub(crate) bad_weight: Vec<usize>,
    pub(crate) sum_read: Vec<f64>,
    pub(crate) sum_in_frame: Vec<f64>,
}

/// Sums the weights of every channel per pixel.
pub(crate) fn accumulate(
    particles: &impl Gather,
    channels: &[Channel<'_>],
    grid: &Grid,
    threads: Threads,
) -> Result<Summed, Error> {
    let n = particles.len();
    let count = channels.len();
    if count == 0 {
        return Err(Error::range("weights", &channels, "one channel or more"));
    }
    for (c, channel) in channels.iter().enumerate() {
        check_length(format!("weights[{c}]"), channel.len(), n)?;
    }
    let blocks = count_blocks(n).max(1);
    let width = TILE * count;
    threads.run(blocks, |workers| {
        let most = (MOST_PARTIAL / (grid.pixels() * count)).max(1);
        let slots = if workers == 1 { 1 } else { 2 * workers }
            .min(blocks)
            .min(most);
        let mut partials = Vec::new();
        for _ in 0..slots {
            partials.push(Partial::new(grid.pixels(), count)?);
        }
        let mut total = zeros(if blocks == 1 {
            0
        } else {
            grid.pixels() * count
        })?;
        let mut in_frame = 0;
        let mut bad = 0;
        let mut tallies = vec![Tally::default(); count];
        for wave in (0..blocks).step_by(slots) {
            let used = slots.min(blocks - wave);
            let partials = &mut partials[..used];
            let fill = |(slot, partial): (usize, &mut Partial)| {
                partial.fill(particles, block(wave + slot, n), channels, grid);
            };
            if slots == 1 {
                partials.iter_mut().enumerate().for_each(fill);
            } else {
                partials.par_iter_mut().enumerate().for_each(fill);
            }
            for partial in &*partials {
                in_frame += partial.in_frame;
                bad += partial.bad;
                for (tally, part) in tallies.iter_mut().zip(&partial.tallies) {
                    tally.bad += part.bad;
                    tally.read.merge(part.read);
                    tally.in_frame.merge(part.in_frame);
                }
            }
            if slots == 1 {
                merge(&mut total, 0, partials, width);
            } else {
                total
                    .par_chunks_mut(STRIPE * width)
                    .enumerate()
                    .for_each(|(k, part)| merge(part, k * STRIPE, partials, width));
            }
        }
        if blocks == 1 {
            // Adding to a zero image would change no bit: a sum from +0 is never -0.
            total = partials.swap_remove(0).image;
        }
        drop(partials);
        Ok(Summed {
            maps: planes(total, count)?,
            in_frame,
            bad_coordinates: bad,
            bad_weight: tallies.iter().map(|tally| tally.bad).collect(),
            sum_read: tallies.iter().map(|tally| tally.read.value()).collect(),
            sum_in_frame: tallies.iter().map(|tally| tally.in_frame.value()).collect(),
        })
    })?
}

/// From interleaved channels to one plane after the other.
fn planes(image: Vec<f64>, count: usize) -> Result<Vec<f64>, Error> {
    if count == 1 {
        return Ok(image);
    }
    let pixels = image.len() / count;
    let mut planes = zeros(image.len())?;
    for (c, plane) in planes.chunks_exact_mut(pixels).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(image.chunks_exact(count)) {
            *value = pixel[c];
        }
    }
    Ok(planes)
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

    #[inline]
    fn gather(&self, range: Range<usize>, batch: &mut Batch) {
        let points = self.x[range.clone()].iter().zip(&self.y[range]);
        batch.fill(points.map(|(x, y)| {
            let (x, y) = (x.wide(), y.wide());
            let inside = self.grid.contains(0, x) & self.grid.contains(1, y);
            (x, y, inside, x.is_finite() & y.is_finite())
        }));
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
    Ok(accumulate(&Points { x, y, grid }, weights, grid, threads)?.maps)
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
        bin_2d(x, y, &[Channel::F64(&ones)], grid, Threads::SERIAL).unwrap()
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
        let maps = bin_2d(&x, &y, &[Channel::F64(&w)], &g, Threads::SERIAL).unwrap();
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
        let weights = [Channel::F32(&[1.0]), Channel::F64(&[])];
        assert!(matches!(
            run(&[1.0], &weights),
            Some(Error::Length { name, got: 0, expected: 1 }) if name == "weights[1]"
        ));
    }

    #[test]
    fn a_compensated_sum_survives_cancellation_and_overflow() {
        let mut sum = Sum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.value(), 2.0);
        for _ in 0..3 {
            sum.add(f64::MAX);
        }
        assert_eq!(sum.value(), f64::INFINITY);
    }
}
