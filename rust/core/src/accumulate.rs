//! Sums of weights per pixel, the same bits for any threads, segments and vector instructions.

use std::ops::Range;

use rayon::prelude::*;

use crate::bin2d::Grid;
use crate::channel::{Channel, Scratch};
use crate::error::check_length;
use crate::parallel::{BLOCK, zeros};
use crate::simd::{Level, Task, prefetch};
use crate::values::{Rows, keep_if};
use crate::{Error, Threads};

/// Particles handled at a time: what is known of them stays in the first-level cache.
pub(crate) const BATCH: usize = 256;

/// How far ahead particles are fetched.
const AHEAD: usize = 2 * BATCH;

/// Up to [`BATCH`] consecutive particles with their places in the picture.
pub(crate) struct Batch {
    pub(crate) x: [f64; BATCH],
    pub(crate) y: [f64; BATCH],
    /// 1 for those in the picture, 0 for others.
    pub(crate) inside: [u64; BATCH],
    /// How many are not finite.
    pub(crate) bad: usize,
    at: [u8; BATCH],
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            x: [0.0; BATCH],
            y: [0.0; BATCH],
            inside: [0; BATCH],
            bad: 0,
            at: [0; BATCH],
        }
    }
}

impl Batch {
    /// A range in pieces that a batch can take; with `offset` added they end at multiples of it.
    pub(crate) fn ranges(range: Range<usize>, offset: usize) -> impl Iterator<Item = Range<usize>> {
        let mut start = range.start;
        std::iter::from_fn(move || {
            let piece = start..(start + BATCH - (start + offset) % BATCH).min(range.end);
            start = piece.end;
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// How many of the first `n` are in the picture.
    #[inline(always)]
    pub(crate) fn count(&self, n: usize) -> usize {
        self.inside[..n].iter().sum::<u64>() as usize
    }

    /// Keeps only the places of those of the first `n` that are in the picture; how many these are.
    #[inline(always)]
    pub(crate) fn keep(&mut self, n: usize) -> usize {
        let mut len = 0;
        for start in (0..n.min(BATCH)).step_by(LANES) {
            let end = (start + LANES).min(n);
            if self.inside[start..end].iter().all(|&inside| inside == 0) {
                continue;
            }
            for i in start..end {
                // Always written, kept by moving on: no branch to mispredict.
                let slot = len % BATCH;
                self.x[slot] = self.x[i];
                self.y[slot] = self.y[i];
                self.at[slot] = i as u8;
                len += self.inside[i] as usize;
            }
        }
        len.min(BATCH)
    }

    /// Which ones the first `len` kept were.
    #[inline(always)]
    pub(crate) fn kept(&self, len: usize) -> &[u8] {
        &self.at[..len]
    }
}

/// Particles with a place in a picture.
pub(crate) trait Gather: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Asks for those of `range` to be fetched, as far as there are any.
    fn prefetch(&self, range: Range<usize>);

    /// Places of those of `range`. Must be `#[inline(always)]`.
    fn gather(&self, range: Range<usize>, batch: &mut Batch);
}

/// Which weights are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Books {
    /// Those of all particles.
    All,
    /// Those of particles in the picture, so that others need not be there to be read.
    InFrame,
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

/// Parts of a plain sum of up to [`BATCH`] values.
const LANES: usize = 8;

/// A sum of values grouped by the number of their particle.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    sum: Sum,
    lanes: [f64; LANES],
    group: usize,
}

impl Tally {
    /// Values from a particle's number on come next; they must not pass a multiple of [`BATCH`].
    #[inline(always)]
    fn start(&mut self, number: usize) {
        if number / BATCH != self.group {
            *self = Self {
                sum: self.total(),
                lanes: [0.0; LANES],
                group: number / BATCH,
            };
        }
    }

    /// Adds values of consecutive particles.
    #[inline(always)]
    fn extend(&mut self, number: usize, values: &[f64]) {
        self.start(number);
        if number.is_multiple_of(LANES) {
            let (chunks, rest) = values.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, value) in self.lanes.iter_mut().zip(chunk) {
                    *lane += value;
                }
            }
            for (lane, value) in self.lanes.iter_mut().zip(rest) {
                *lane += value;
            }
        } else {
            for (i, value) in values.iter().enumerate() {
                self.lanes[(number + i) % LANES] += value;
            }
        }
    }

    /// Adds values of some of the particles from `number` on: the same bits as with zeros between.
    #[inline(always)]
    fn extend_at(&mut self, number: usize, at: &[u8], values: &[f64]) {
        self.start(number);
        for (&at, value) in at.iter().zip(values) {
            self.lanes[(number + usize::from(at)) % LANES] += value;
        }
    }

    fn total(&self) -> Sum {
        let mut sum = self.sum;
        sum.add(self.lanes.iter().sum());
        sum
    }
}

/// What happened to one channel in one block.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    bad: usize,
    read: Tally,
    in_frame: Tally,
}

#[inline(always)]
fn finite(value: f64) -> u64 {
    u64::from(0.0 * value == 0.0)
}

/// The finite values, zero in place of others; how many these were.
///
/// Not in place: of that, compilers make masked stores, which are slow.
#[inline(always)]
fn clean(values: &[f64], target: &mut [f64]) -> usize {
    let mut bad = 0;
    for (target, &value) in target.iter_mut().zip(values) {
        *target = keep_if(finite(value), value);
        bad += 1 - finite(value);
    }
    bad as usize
}

/// The finite values of those inside, zero in place of others; how many inside were not finite.
#[inline(always)]
fn clean_inside(values: &[f64], inside: &[u64], target: &mut [f64]) -> usize {
    let mut bad = 0;
    for ((target, &value), &inside) in target.iter_mut().zip(values).zip(inside) {
        *target = keep_if(inside & finite(value), value);
        bad += inside & (1 - finite(value));
    }
    bad as usize
}

/// Zero in place of the divisors of values that are not finite.
#[inline(always)]
fn keep_finite(values: &[f64], divisors: &mut [f64]) {
    for (divisor, &value) in divisors.iter_mut().zip(values) {
        *divisor = keep_if(finite(value), *divisor);
    }
}

/// Pixels after those of the picture, for particles outside: several, because additions to one wait
/// for each other.
const MARGIN: usize = 16;

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
    accounts: Vec<Account>,
    /// Weights of the particles of a batch, channel by channel.
    weights: Vec<[f64; BATCH]>,
    raw: [f64; BATCH],
    divisor: [f64; BATCH],
    scratch: Scratch,
}

impl Partial {
    fn new(pixels: usize, columns: usize) -> Result<Self, Error> {
        Ok(Self {
            image: zeros((pixels + MARGIN) * columns)?,
            dirty: vec![false; (pixels + MARGIN).div_ceil(TILE)],
            in_frame: 0,
            bad: 0,
            accounts: vec![Account::default(); columns],
            weights: vec![[0.0; BATCH]; columns],
            raw: [0.0; BATCH],
            divisor: [0.0; BATCH],
            scratch: [[0.0; BATCH]; 2],
        })
    }

    /// Asks for pixels that will be needed soon.
    #[inline(always)]
    fn prefetch(&self, pixels: &[u32]) {
        let count = self.weights.len();
        for &pixel in pixels {
            prefetch(&self.image, pixel as usize * count);
        }
    }

    fn clear(&mut self) {
        let tiles = self.image.chunks_mut(TILE * self.accounts.len());
        for (tile, dirty) in tiles.zip(&mut self.dirty) {
            if *dirty {
                tile.fill(0.0);
                *dirty = false;
            }
        }
        self.in_frame = 0;
        self.bad = 0;
        self.accounts.fill(Account::default());
    }
}

/// The particles of a range on their way into the image of their block.
struct Fill<'a, G> {
    partial: &'a mut Partial,
    particles: &'a G,
    range: Range<usize>,
    /// Number of the first particle given.
    offset: usize,
    channels: &'a [Channel<'a>],
    grid: &'a Grid,
    books: Books,
}

impl<G: Gather> Task for Fill<'_, G> {
    #[inline(always)]
    fn run(mut self) {
        let (mut in_frame, mut bad) = (0, 0);
        let mut batch = Batch::default();
        let mut pixels = [0; BATCH];
        for range in Batch::ranges(self.range.clone(), self.offset) {
            let ahead = range.start + AHEAD;
            self.particles.prefetch(ahead..ahead + range.len());
            self.particles.gather(range.clone(), &mut batch);
            let inside = batch.count(range.len());
            in_frame += inside;
            bad += batch.bad;
            // Where half are in the picture, all have been fetched from memory anyway.
            if self.books == Books::All || 2 * inside >= range.len() {
                for channel in self.channels {
                    channel.prefetch(ahead, range.len());
                }
                self.weigh_all(range, &mut batch, &mut pixels);
            } else if inside > 0 {
                self.weigh_some(range, &mut batch, &mut pixels);
            }
        }
        self.partial.in_frame += in_frame;
        self.partial.bad += bad;
    }
}

impl<G> Fill<'_, G> {
    /// Puts all particles of a batch into the image, those outside into its margin.
    #[inline(always)]
    fn weigh_all(&mut self, range: Range<usize>, batch: &mut Batch, pixels: &mut [u32; BATCH]) {
        let (start, n) = (range.start, range.len());
        let inside = &batch.inside[..n];
        let margin = self.grid.pixels() as u32;
        let pixels = &mut pixels[..n];
        self.grid.locate(&batch.x[..n], &batch.y[..n], pixels);
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let outside = margin + i as u32 % MARGIN as u32;
            let inside = (inside[i] as u32).wrapping_neg();
            *pixel = (*pixel & inside) | (outside & !inside);
        }
        self.partial.prefetch(pixels);
        let Partial {
            accounts,
            weights,
            raw,
            divisor,
            scratch,
            ..
        } = &mut *self.partial;
        let (raw, divisor) = (&mut raw[..n], &mut divisor[..n]);
        let number = self.offset + start;
        let mut columns = accounts.iter_mut().zip(weights);
        for channel in self.channels {
            channel.load(&Rows::All { start }, raw, divisor, scratch);
            let Some((account, weights)) = columns.next() else {
                break;
            };
            let weights = &mut weights[..n];
            if self.books == Books::All {
                account.bad += clean(raw, weights);
                account.read.extend(number, weights);
                clean_inside(raw, inside, weights);
            } else {
                account.bad += clean_inside(raw, inside, weights);
            }
            account.in_frame.extend(number, weights);
            if !channel.is_mean {
                continue;
            }
            let Some((account, weights)) = columns.next() else {
                break;
            };
            let weights = &mut weights[..n];
            keep_finite(raw, divisor);
            if self.books == Books::All {
                account.read.extend(number, divisor);
            }
            clean_inside(divisor, inside, weights);
            account.in_frame.extend(number, weights);
        }
        self.scatter(pixels);
    }

    /// Puts the particles of a batch that are in the picture into the image.
    #[inline(always)]
    fn weigh_some(&mut self, range: Range<usize>, batch: &mut Batch, pixels: &mut [u32; BATCH]) {
        let start = range.start;
        let len = batch.keep(range.len());
        let at = batch.kept(len);
        let pixels = &mut pixels[..len];
        self.grid.locate(&batch.x[..len], &batch.y[..len], pixels);
        let Partial {
            accounts,
            weights,
            raw,
            divisor,
            scratch,
            ..
        } = &mut *self.partial;
        let (raw, divisor) = (&mut raw[..len], &mut divisor[..len]);
        let number = self.offset + start;
        let mut columns = accounts.iter_mut().zip(weights);
        for channel in self.channels {
            channel.load(&Rows::At { start, at }, raw, divisor, scratch);
            let Some((account, weights)) = columns.next() else {
                break;
            };
            let weights = &mut weights[..len];
            account.bad += clean(raw, weights);
            account.in_frame.extend_at(number, at, weights);
            if !channel.is_mean {
                continue;
            }
            let Some((account, weights)) = columns.next() else {
                break;
            };
            let weights = &mut weights[..len];
            keep_finite(raw, divisor);
            clean(divisor, weights);
            account.in_frame.extend_at(number, at, weights);
        }
        self.scatter(pixels);
    }

    #[inline(always)]
    fn scatter(&mut self, pixels: &[u32]) {
        let Partial {
            image,
            dirty,
            weights,
            ..
        } = &mut *self.partial;
        match weights.len() {
            1 => scatter::<1>(image, dirty, pixels, weights),
            2 => scatter::<2>(image, dirty, pixels, weights),
            3 => scatter::<3>(image, dirty, pixels, weights),
            4 => scatter::<4>(image, dirty, pixels, weights),
            5 => scatter::<5>(image, dirty, pixels, weights),
            6 => scatter::<6>(image, dirty, pixels, weights),
            _ => scatter_any(image, dirty, pixels, weights),
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

/// The books of one channel over all blocks.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    bad: usize,
    read: Sum,
    in_frame: Sum,
}

/// The picture and the books of all particles added to an [`Accumulator`].
pub(crate) struct Summed {
    /// Channel by channel, x the slow axis.
    pub(crate) maps: Vec<f64>,
    pub(crate) read: usize,
    pub(crate) in_frame: usize,
    pub(crate) bad_coordinates: usize,
    pub(crate) bad_weight: Vec<usize>,
    pub(crate) sum_read: Vec<f64>,
    pub(crate) sum_in_frame: Vec<f64>,
}

/// A picture that particles are added to, segment by segment.
///
/// Sums are grouped in blocks of [`BLOCK`] particles by their number since the start, wherever the
/// segments end.
pub(crate) struct Accumulator {
    grid: Grid,
    columns: usize,
    books: Books,
    level: Level,
    /// Particles added so far.
    read: usize,
    total: Vec<f64>,
    partials: Vec<Partial>,
    /// The first partial image holds a block that more particles may come to.
    is_open: bool,
    in_frame: usize,
    bad: usize,
    accounts: Vec<Total>,
}

impl Accumulator {
    pub(crate) fn new(grid: Grid, columns: usize, books: Books) -> Result<Self, Error> {
        if columns == 0 {
            return Err(Error::range("weights", &columns, "one channel or more"));
        }
        Ok(Self {
            grid,
            columns,
            books,
            level: Level::best(),
            read: 0,
            total: Vec::new(),
            partials: Vec::new(),
            is_open: false,
            in_frame: 0,
            bad: 0,
            accounts: vec![Total::default(); columns],
        })
    }

    pub(crate) fn with_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Adds particles to the picture.
    pub(crate) fn add(
        &mut self,
        particles: &impl Gather,
        channels: &[Channel<'_>],
        threads: Threads,
    ) -> Result<(), Error> {
        let n = particles.len();
        let columns = channels.iter().map(Channel::columns).sum();
        check_length("weights", columns, self.columns)?;
        for (c, channel) in channels.iter().enumerate() {
            channel.check(c, n)?;
        }
        if n == 0 {
            return Ok(());
        }
        let blocks = (self.read + n - 1) / BLOCK - self.read / BLOCK + 1;
        threads.run(blocks, |workers| {
            self.add_blocks(particles, channels, blocks, workers)
        })?
    }

    fn add_blocks(
        &mut self,
        particles: &impl Gather,
        channels: &[Channel<'_>],
        blocks: usize,
        workers: usize,
    ) -> Result<(), Error> {
        let most = (MOST_PARTIAL / (self.grid.pixels() * self.columns)).max(1);
        let slots = if workers == 1 { 1 } else { 2 * workers };
        let slots = slots.min(blocks).min(most);
        while self.partials.len() < slots {
            self.partials
                .push(Partial::new(self.grid.pixels(), self.columns)?);
        }
        let (start, end) = (self.read, self.read + particles.len());
        let (level, grid, books) = (self.level, self.grid, self.books);
        for wave in (0..blocks).step_by(slots) {
            let used = slots.min(blocks - wave);
            let continued = self.is_open && wave == 0;
            let fill = |(slot, partial): (usize, &mut Partial)| {
                if !(continued && slot == 0) {
                    partial.clear();
                }
                let first = (start / BLOCK + wave + slot) * BLOCK;
                let range = first.max(start) - start..(first + BLOCK).min(end) - start;
                level.run(Fill {
                    partial,
                    particles,
                    range,
                    offset: start,
                    channels,
                    grid: &grid,
                    books,
                });
            };
            let partials = &mut self.partials[..used];
            if slots == 1 {
                partials.iter_mut().enumerate().for_each(fill);
            } else {
                partials.par_iter_mut().enumerate().for_each(fill);
            }
            self.is_open = wave + used == blocks && !end.is_multiple_of(BLOCK);
            self.close(used - usize::from(self.is_open), slots > 1)?;
            if self.is_open {
                self.partials.swap(0, used - 1);
            }
        }
        self.read = end;
        Ok(())
    }

    /// Adds the first partial images, whose blocks are complete, to the total.
    fn close(&mut self, complete: usize, parallel: bool) -> Result<(), Error> {
        if complete == 0 {
            return Ok(());
        }
        if self.total.is_empty() {
            self.total = zeros(self.grid.pixels() * self.columns)?;
        }
        let partials = &self.partials[..complete];
        for partial in partials {
            self.in_frame += partial.in_frame;
            self.bad += partial.bad;
            for (books, account) in self.accounts.iter_mut().zip(&partial.accounts) {
                books.bad += account.bad;
                books.read.merge(account.read.total());
                books.in_frame.merge(account.in_frame.total());
            }
        }
        let width = TILE * self.columns;
        if parallel {
            self.total
                .par_chunks_mut(STRIPE * width)
                .enumerate()
                .for_each(|(k, part)| merge(part, k * STRIPE, partials, width));
        } else {
            merge(&mut self.total, 0, partials, width);
        }
        Ok(())
    }

    /// The picture of all particles added.
    pub(crate) fn finish(mut self) -> Result<Summed, Error> {
        if self.is_open || self.total.is_empty() {
            if self.partials.is_empty() {
                self.total = zeros(self.grid.pixels() * self.columns)?;
            } else {
                self.close(1, false)?;
            }
        }
        self.partials = Vec::new();
        Ok(Summed {
            maps: planes(self.total, self.columns)?,
            read: self.read,
            in_frame: self.in_frame,
            bad_coordinates: self.bad,
            bad_weight: self.accounts.iter().map(|books| books.bad).collect(),
            sum_read: match self.books {
                Books::All => self.accounts.iter().map(|b| b.read.value()).collect(),
                Books::InFrame => Vec::new(),
            },
            sum_in_frame: self.accounts.iter().map(|b| b.in_frame.value()).collect(),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_tally_does_not_depend_on_how_its_values_come() {
        let values: Vec<f64> = (0..1000).map(|k| f64::from(k).sin()).collect();
        let kept: Vec<f64> = values
            .iter()
            .map(|v| if *v > 0.9 { *v } else { 0.0 })
            .collect();
        let total = |piece: usize, sparse: bool| {
            let mut tally = Tally::default();
            for end in (piece..=values.len()).step_by(piece) {
                for range in Batch::ranges(end - piece..end, 0) {
                    let at: Vec<u8> = (0..range.len())
                        .filter(|i| kept[range.start + i] > 0.0)
                        .map(|i| i as u8)
                        .collect();
                    let some: Vec<f64> = at
                        .iter()
                        .map(|i| kept[range.start + usize::from(*i)])
                        .collect();
                    if sparse {
                        tally.extend_at(range.start, &at, &some);
                    } else {
                        tally.extend(range.start, &kept[range]);
                    }
                }
            }
            tally.total().value().to_bits()
        };
        let expected = total(1000, false);
        for piece in [1, 4, 8, 100, 250, 500, 1000] {
            assert_eq!([total(piece, false), total(piece, true)], [expected; 2]);
        }
    }
}
