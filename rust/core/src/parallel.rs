//! Blocks of particles, and the threads that work on them.

use std::num::NonZeroUsize;
use std::ops::Range;

use rayon::prelude::*;

use crate::Error;

/// Particles per block, the unit in which sums are grouped.
///
/// A constant, so that no sum depends on the number of threads. It bounds the rounding of a pixel:
/// equal weights, all in one pixel, are the worst case at about `BLOCK / 3` roundings, 2.4e-12;
/// weights that differ stay far below 1e-12.
pub const BLOCK: usize = 1 << 16;

/// More threads than this in one call are surely a mistake.
const MOST_THREADS: i64 = 1024;

/// Who does the work. The result does not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// The pool that the process shares, of `RAYON_NUM_THREADS` or all cores.
    #[default]
    Shared,
    /// The calling thread alone for 1, else a pool of this call's own.
    Exactly(NonZeroUsize),
}

impl Threads {
    /// The calling thread alone.
    pub const SERIAL: Self = Self::Exactly(NonZeroUsize::MIN);

    /// `None` is the shared pool.
    ///
    /// # Errors
    /// [`Error::Range`] unless the number is 1 to 1024.
    pub fn new(count: Option<i64>) -> Result<Self, Error> {
        let Some(count) = count else {
            return Ok(Self::Shared);
        };
        usize::try_from(count)
            .ok()
            .and_then(NonZeroUsize::new)
            .filter(|_| count <= MOST_THREADS)
            .map(Self::Exactly)
            .ok_or_else(|| Error::range("threads", &count, "None or 1 to 1024"))
    }

    /// Runs `job` where rayon's parallel calls use these threads; it is told how many there are.
    ///
    /// Told 1, it must not call rayon: a single block is never worth a pool.
    pub(crate) fn run<R: Send>(
        self,
        blocks: usize,
        job: impl FnOnce(usize) -> R + Send,
    ) -> Result<R, Error> {
        if blocks <= 1 {
            return Ok(job(1));
        }
        match self {
            Self::Shared => Ok(job(rayon::current_num_threads())),
            Self::Exactly(NonZeroUsize::MIN) => Ok(job(1)),
            Self::Exactly(count) => {
                let threads = count.get().min(blocks);
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .map_err(|e| Error::Pool {
                        threads,
                        reason: e.to_string(),
                    })?;
                Ok(pool.install(|| job(threads)))
            }
        }
    }
}

pub(crate) fn count_blocks(particles: usize) -> usize {
    particles.div_ceil(BLOCK)
}

pub(crate) fn block(index: usize, particles: usize) -> Range<usize> {
    let start = (index * BLOCK).min(particles);
    start..(start + BLOCK).min(particles)
}

/// The result of `job` for every block, in order.
pub(crate) fn map_blocks<R: Send>(
    particles: usize,
    threads: Threads,
    job: impl Fn(Range<usize>) -> R + Sync + Send,
) -> Result<Vec<R>, Error> {
    let blocks = count_blocks(particles);
    threads.run(blocks, |workers| {
        let one = |index| job(block(index, particles));
        if workers == 1 {
            (0..blocks).map(one).collect()
        } else {
            (0..blocks).into_par_iter().map(one).collect()
        }
    })
}

/// `count` zeros, or an error where a plain `vec!` would abort the process.
pub(crate) fn zeros(count: usize) -> Result<Vec<f64>, Error> {
    // The probe is given back at once: `vec!` gets zeroed pages from the system, `resize` would
    // write them.
    Vec::<f64>::new()
        .try_reserve_exact(count)
        .map_err(|_| Error::Memory { values: count })?;
    Ok(vec![0.0; count])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn blocks_cover_every_particle_once() {
        for n in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let mut next = 0;
            for index in 0..count_blocks(n) {
                let range = block(index, n);
                assert_eq!(range.start, next);
                assert!(!range.is_empty() && range.len() <= BLOCK);
                next = range.end;
            }
            assert_eq!(next, n);
        }
    }

    #[test]
    fn thread_counts_are_checked() {
        assert_eq!(Threads::new(None), Ok(Threads::Shared));
        assert_eq!(Threads::new(Some(1)), Ok(Threads::SERIAL));
        for bad in [0, -1, i64::MIN, 1025, i64::MAX] {
            assert!(matches!(
                Threads::new(Some(bad)),
                Err(Error::Range {
                    name: "threads",
                    ..
                })
            ));
        }
    }

    #[test]
    fn results_come_in_block_order() {
        for threads in [1, 2, 5] {
            let threads = Threads::new(Some(threads)).unwrap();
            let starts = map_blocks(5 * BLOCK, threads, |range| range.start).unwrap();
            assert_eq!(starts, [0, BLOCK, 2 * BLOCK, 3 * BLOCK, 4 * BLOCK]);
        }
    }

    #[test]
    fn too_much_memory_is_an_error() {
        assert!(matches!(zeros(usize::MAX / 8), Err(Error::Memory { .. })));
    }
}
