//! Sums of weights per pixel, the same bits for any threads, segments, frames and vector
//! instructions.

use std::ops::Range;

use rayon::prelude::*;

use crate::batch::{BATCH, Batch, Places};
use crate::channel::{Channel, Scratch};
use crate::deposit::{Deposit, Image, reach_of_volumes};
use crate::error::check_length;
use crate::grid::Grid;
use crate::parallel::BLOCK;
use crate::simd::{Level, Task, prefetch_range};
use crate::sums::{Account, Total, keep_finite};
use crate::values::{Real, Rows};
use crate::{Error, Frame, Threads};

/// How far ahead particles are fetched.
const AHEAD: usize = 2 * BATCH;

/// Most values in all partial images together (1 GiB).
const MOST_PARTIAL: usize = 1 << 27;

/// A frame, and the pixels that it is divided into.
#[derive(Clone)]
pub(crate) struct View<G> {
    pub(crate) frame: Frame,
    pub(crate) grid: G,
}

/// What one block of particles leaves in one view.
struct Partial<D> {
    image: Image,
    deposit: D,
    in_frame: usize,
    bad: usize,
    accounts: Vec<Account>,
    /// Weights of the particles of a batch, column by column.
    weights: Vec<[f64; BATCH]>,
    values: [f64; BATCH],
    divisors: [f64; BATCH],
    scratch: Scratch,
}

impl<D: Default> Partial<D> {
    fn new(pixels: usize, columns: usize) -> Result<Self, Error> {
        Ok(Self {
            image: Image::new(pixels, columns)?,
            deposit: D::default(),
            in_frame: 0,
            bad: 0,
            accounts: vec![Account::default(); columns],
            weights: vec![[0.0; BATCH]; columns],
            values: [0.0; BATCH],
            divisors: [0.0; BATCH],
            scratch: [[0.0; BATCH]; 2],
        })
    }

    fn clear(&mut self) {
        self.image.clear();
        self.in_frame = 0;
        self.bad = 0;
        self.accounts.fill(Account::default());
    }

    /// Puts particles of a batch into the image and into the books.
    #[inline(always)]
    fn put<G: Grid>(&mut self, lot: &Lot<'_, G>, places: &Places<'_>, rows: &Rows<'_>)
    where
        D: Deposit<G>,
    {
        let n = places.x.len();
        self.deposit.aim(lot.grid, places, &self.image);
        let (values, divisors) = (&mut self.values[..n], &mut self.divisors[..n]);
        let mut columns = self.accounts.iter_mut().zip(&mut self.weights);
        let mut enter = |values: &[f64]| {
            if let Some((account, weights)) = columns.next() {
                let weights = &mut weights[..n];
                account.enter(lot.number, rows, values, places.inside, lot.whole, weights);
            }
        };
        for channel in lot.channels {
            channel.load(rows, values, divisors, &mut self.scratch);
            enter(values);
            if channel.is_mean {
                keep_finite(values, divisors);
                enter(divisors);
            }
        }
        self.deposit
            .add(lot.grid, &self.weights, &mut self.image, lot.level);
    }
}

/// What is done with the particles of a batch.
struct Lot<'a, G> {
    grid: &'a G,
    channels: &'a [Channel<'a>],
    /// Number of the first one.
    number: usize,
    whole: bool,
    level: Level,
}

/// What is known of particles besides their places.
pub(crate) struct Cells<'a> {
    pub(crate) channels: &'a [Channel<'a>],
    /// Of those with a size, their volumes.
    pub(crate) volumes: Option<&'a Channel<'a>>,
}

impl Cells<'_> {
    /// How far the particles of a batch reach, if they have a size.
    #[inline(always)]
    fn reach(&self, start: usize, n: usize, reach: &mut [f64; BATCH], scratch: &mut Scratch) {
        let Some(volumes) = self.volumes else {
            return;
        };
        volumes.prefetch(start + AHEAD, n);
        let reach = &mut reach[..n];
        let mut unused = [0.0; BATCH];
        volumes.load(&Rows::All { start }, reach, &mut unused[..n], scratch);
        reach_of_volumes(reach);
    }
}

/// The particles of a range on their way into the images of their block.
struct Fill<'a, T, G, D> {
    views: &'a [View<G>],
    partials: &'a mut [Partial<D>],
    points: &'a [[T; 3]],
    range: Range<usize>,
    /// Number of the first particle given.
    offset: usize,
    cells: &'a Cells<'a>,
    whole: bool,
    level: Level,
}

impl<T: Real, G: Grid, D: Deposit<G>> Task for Fill<'_, T, G, D> {
    #[inline(always)]
    fn run(self) {
        let mut batch = Batch::default();
        let (mut reach, mut scratch) = ([0.0; BATCH], [[0.0; BATCH]; 2]);
        for range in Batch::ranges(self.range, self.offset) {
            let (start, n) = (range.start, range.len());
            prefetch_range(self.points, start + AHEAD, n);
            self.cells.reach(start, n, &mut reach, &mut scratch);
            for (view, partial) in self.views.iter().zip(&mut *self.partials) {
                view.frame.select(&self.points[range.clone()], &mut batch);
                if self.cells.volumes.is_some() {
                    batch.reach = reach;
                    view.frame
                        .select_reaching(n, D::widest(&view.grid), &mut batch);
                }
                let inside = batch.count(n);
                partial.in_frame += inside;
                partial.bad += batch.bad;
                let lot = Lot {
                    grid: &view.grid,
                    channels: self.cells.channels,
                    number: self.offset + start,
                    whole: self.whole,
                    level: self.level,
                };
                // Where half are in the frame, all have been fetched from memory anyway.
                if self.whole || 2 * inside >= n {
                    for channel in self.cells.channels {
                        channel.prefetch(start + AHEAD, n);
                    }
                    let places = batch.places(n, true);
                    partial.put(&lot, &places, &Rows::All { start });
                } else if inside > 0 {
                    let len = batch.keep(n);
                    let at = batch.kept(len);
                    partial.put(&lot, &batch.places(len, false), &Rows::At { start, at });
                }
            }
        }
    }
}

/// What all particles added to an [`Accumulator`] left in one view.
pub(crate) struct Summed {
    /// Column by column, as the grid counts pixels.
    pub(crate) maps: Vec<f64>,
    pub(crate) in_frame: usize,
    pub(crate) bad_coordinates: usize,
    pub(crate) columns: Vec<Total>,
}

/// The same while particles are added.
struct Sums {
    /// None before the first block is complete.
    image: Option<Image>,
    in_frame: usize,
    bad: usize,
    columns: Vec<Total>,
}

impl Sums {
    fn enter<D>(&mut self, partial: &Partial<D>) {
        self.in_frame += partial.in_frame;
        self.bad += partial.bad;
        for (total, account) in self.columns.iter_mut().zip(&partial.accounts) {
            total.merge(account);
        }
    }
}

/// Pictures that particles are added to, segment by segment, each in its frame.
///
/// Sums are grouped in blocks of [`BLOCK`] particles by their number since the start, wherever the
/// segments end.
pub(crate) struct Accumulator<G, D> {
    views: Vec<View<G>>,
    columns: usize,
    /// Whether weights of particles outside the frame are looked at, too.
    whole: bool,
    level: Level,
    /// Particles added so far.
    read: usize,
    sums: Vec<Sums>,
    /// For each block at work, what it leaves in each view.
    partials: Vec<Vec<Partial<D>>>,
    /// The first of these is of a block that more particles may come to.
    is_open: bool,
}

impl<G: Grid, D: Deposit<G>> Accumulator<G, D> {
    pub(crate) fn new(views: Vec<View<G>>, columns: usize, whole: bool) -> Result<Self, Error> {
        if columns == 0 {
            return Err(Error::range("weights", &columns, "one channel or more"));
        }
        let sums = views.iter().map(|_| Sums {
            image: None,
            in_frame: 0,
            bad: 0,
            columns: vec![Total::default(); columns],
        });
        Ok(Self {
            sums: sums.collect(),
            views,
            columns,
            whole,
            level: Level::best(),
            read: 0,
            partials: Vec::new(),
            is_open: false,
        })
    }

    pub(crate) fn with_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Particles added so far.
    pub(crate) fn read(&self) -> usize {
        self.read
    }

    /// Adds particles to the pictures.
    pub(crate) fn add<T: Real>(
        &mut self,
        points: &[[T; 3]],
        cells: &Cells<'_>,
        threads: Threads,
    ) -> Result<(), Error> {
        let n = points.len();
        let channels = cells.channels;
        let columns = channels.iter().map(Channel::columns).sum();
        check_length("weights", columns, self.columns)?;
        for (c, channel) in channels.iter().enumerate() {
            channel.check(&format!("weights[{c}]"), n)?;
        }
        if let Some(volumes) = cells.volumes {
            volumes.check("volumes", n)?;
        }
        if n == 0 {
            return Ok(());
        }
        let blocks = (self.read + n - 1) / BLOCK - self.read / BLOCK + 1;
        threads.run(blocks, |workers| {
            self.add_blocks(points, cells, blocks, workers)
        })?
    }

    fn add_blocks<T: Real>(
        &mut self,
        points: &[[T; 3]],
        cells: &Cells<'_>,
        blocks: usize,
        workers: usize,
    ) -> Result<(), Error> {
        let pixels: usize = self.views.iter().map(|view| D::nodes(&view.grid)).sum();
        let most = (MOST_PARTIAL / (pixels * self.columns).max(1)).max(1);
        let slots = if workers == 1 { 1 } else { 2 * workers };
        let slots = slots.min(blocks).min(most);
        while self.partials.len() < slots {
            let slot = self.views.iter();
            let slot = slot.map(|view| Partial::new(D::nodes(&view.grid), self.columns));
            self.partials.push(slot.collect::<Result<_, _>>()?);
        }
        let (start, end) = (self.read, self.read + points.len());
        for wave in (0..blocks).step_by(slots) {
            let used = slots.min(blocks - wave);
            let continued = self.is_open && wave == 0;
            let (level, views, whole) = (self.level, &self.views[..], self.whole);
            let fill = |(slot, partials): (usize, &mut Vec<Partial<D>>)| {
                if !(continued && slot == 0) {
                    partials.iter_mut().for_each(Partial::clear);
                }
                let first = (start / BLOCK + wave + slot) * BLOCK;
                let range = first.max(start) - start..(first + BLOCK).min(end) - start;
                level.run(Fill {
                    views,
                    partials,
                    points,
                    range,
                    offset: start,
                    cells,
                    whole,
                    level,
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

    /// Adds what the first blocks, which are complete, have left.
    fn close(&mut self, complete: usize, parallel: bool) -> Result<(), Error> {
        if complete == 0 {
            return Ok(());
        }
        for (v, (sums, view)) in self.sums.iter_mut().zip(&self.views).enumerate() {
            let partials = self.partials[..complete].iter().map(|slot| &slot[v]);
            partials.clone().for_each(|partial| sums.enter(partial));
            let image = match &mut sums.image {
                Some(image) => image,
                none => none.insert(Image::new(D::nodes(&view.grid), self.columns)?),
            };
            let images: Vec<_> = partials.map(|partial| &partial.image).collect();
            image.merge(&images, parallel);
        }
        Ok(())
    }

    /// The pictures of all particles added, view by view.
    pub(crate) fn finish(mut self) -> Result<Vec<Summed>, Error> {
        if self.is_open {
            for (sums, partial) in self.sums.iter_mut().zip(self.partials.swap_remove(0)) {
                sums.enter(&partial);
                match &mut sums.image {
                    Some(image) => image.merge(&[&partial.image], false),
                    None => sums.image = Some(partial.image),
                }
            }
        }
        self.partials = Vec::new();
        let sums = self.sums.into_iter().zip(&self.views);
        sums.map(|(sums, view)| {
            let image = match sums.image {
                Some(image) => image,
                None => Image::new(D::nodes(&view.grid), self.columns)?,
            };
            Ok(Summed {
                maps: D::develop(&view.grid, image, self.level)?,
                in_frame: sums.in_frame,
                bad_coordinates: sums.bad,
                columns: sums.columns,
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::deposit::Histogram;

    /// Two bins along each of three axes.
    #[derive(Clone)]
    struct Cube;

    impl Grid for Cube {
        fn pixels(&self) -> usize {
            8
        }

        #[inline(always)]
        fn locate(&self, places: &Places<'_>, pixels: &mut [u32]) {
            for (i, pixel) in pixels.iter_mut().enumerate() {
                let places = [places.x[i], places.y[i], places.z[i]];
                *pixel = places
                    .iter()
                    .fold(0, |bin, v| 2 * bin + u32::from(*v >= 0.0));
            }
        }
    }

    #[test]
    fn a_grid_may_have_three_axes() {
        let frame = Frame::new([0.0; 3], None, None, [1.0; 2], Some(1.0)).unwrap();
        let corners = (0..8).map(|k| [k & 4, k & 2, k & 1].map(|bit| f64::from(bit > 0) - 0.5));
        // first all in the frame, then few of a batch
        let far = std::iter::repeat_n([9.0; 3], 2 * BATCH);
        let points: Vec<_> = corners.clone().chain(far).chain(corners.take(5)).collect();
        let weights: Vec<f64> = (0..points.len()).map(|k| k as f64).collect();
        let view = View { frame, grid: Cube };
        let mut sums = Accumulator::<_, Histogram>::new(vec![view], 1, false).unwrap();
        for range in [0..8, 8..points.len()] {
            let channels = [Channel::from(&weights[range.clone()])];
            let cells = Cells {
                channels: &channels,
                volumes: None,
            };
            sums.add(&points[range], &cells, Threads::SERIAL).unwrap();
        }
        let made = sums.finish().unwrap().swap_remove(0);
        let second = |k: usize| {
            if k < 5 {
                (2 * BATCH + 8 + k) as f64
            } else {
                0.0
            }
        };
        let expected: Vec<f64> = (0..8).map(|k| k as f64 + second(k)).collect();
        assert_eq!(made.maps, expected);
        assert_eq!(made.in_frame, 13);
    }
}
