//! A few particles at a time, with their places in a frame.

use std::ops::Range;

/// Particles handled at a time: what is known of them stays in the first-level cache.
pub(crate) const BATCH: usize = 256;

/// Particles that are looked at together where many are left out.
const GROUP: usize = 8;

/// Up to [`BATCH`] consecutive particles with their places in a frame.
pub(crate) struct Batch {
    pub(crate) x: [f64; BATCH],
    pub(crate) y: [f64; BATCH],
    /// Along the line of sight.
    pub(crate) z: [f64; BATCH],
    /// How far a particle reaches, for those with a size.
    pub(crate) reach: [f64; BATCH],
    /// 1 for those in the frame, 0 for others.
    pub(crate) inside: [u64; BATCH],
    /// How many are not finite.
    pub(crate) bad: usize,
    at: [u8; BATCH],
}

/// Where the particles of a batch are in their frame.
pub(crate) struct Places<'a> {
    pub(crate) x: &'a [f64],
    pub(crate) y: &'a [f64],
    /// Along the line of sight.
    #[cfg_attr(not(test), expect(dead_code, reason = "of pictures, it is for cubes"))]
    pub(crate) z: &'a [f64],
    /// How far they reach, for particles with a size.
    pub(crate) reach: &'a [f64],
    /// 1 for those in the frame, 0 for others; none where all are.
    pub(crate) inside: Option<&'a [u64]>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            x: [0.0; BATCH],
            y: [0.0; BATCH],
            z: [0.0; BATCH],
            reach: [0.0; BATCH],
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

    /// How many of the first `n` are in the frame.
    #[inline(always)]
    pub(crate) fn count(&self, n: usize) -> usize {
        self.inside[..n].iter().sum::<u64>() as usize
    }

    /// Keeps only the places of those of the first `n` that are in the frame; how many these are.
    #[inline(always)]
    pub(crate) fn keep(&mut self, n: usize) -> usize {
        let mut len = 0;
        for start in (0..n.min(BATCH)).step_by(GROUP) {
            let end = (start + GROUP).min(n);
            if self.inside[start..end].iter().all(|&inside| inside == 0) {
                continue;
            }
            for i in start..end {
                // Always written, kept by moving on: no branch to mispredict.
                let slot = len % BATCH;
                self.x[slot] = self.x[i];
                self.y[slot] = self.y[i];
                self.z[slot] = self.z[i];
                self.reach[slot] = self.reach[i];
                self.at[slot] = i as u8;
                len += self.inside[i] as usize;
            }
        }
        len.min(BATCH)
    }

    /// Places of the first `n`: of all, or of those kept.
    #[inline(always)]
    pub(crate) fn places(&self, n: usize, all: bool) -> Places<'_> {
        Places {
            x: &self.x[..n],
            y: &self.y[..n],
            z: &self.z[..n],
            reach: &self.reach[..n],
            inside: all.then_some(&self.inside[..n]),
        }
    }

    /// Which ones the first `len` kept were.
    #[inline(always)]
    pub(crate) fn kept(&self, len: usize) -> &[u8] {
        &self.at[..len]
    }
}
