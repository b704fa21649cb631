//! Sums whose bits depend on the numbers of particles alone, and the books that are kept of them.

use crate::batch::BATCH;
use crate::values::{Rows, keep_if};

/// A compensated sum (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
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

    pub(crate) fn merge(&mut self, other: Self) {
        self.add(other.high);
        self.add(other.low);
    }

    pub(crate) fn value(self) -> f64 {
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

    /// Adds values of particles from `number` on.
    #[inline(always)]
    fn extend(&mut self, number: usize, rows: &Rows<'_>, values: &[f64]) {
        match rows {
            Rows::All { .. } => self.extend_all(number, values),
            Rows::At { at, .. } => self.extend_at(number, at, values),
        }
    }

    /// Adds values of consecutive particles.
    #[inline(always)]
    fn extend_all(&mut self, number: usize, values: &[f64]) {
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

/// The books of one column of sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    bad: usize,
    in_frame: Tally,
    out_of_frame: Tally,
}

impl Account {
    /// Enters values of particles from `number` on, and leaves in `weights` those to be summed:
    /// finite ones of particles `inside`, zero in place of others.
    ///
    /// `inside` is none where all are. Values of others are entered too where it is `whole`.
    #[inline(always)]
    pub(crate) fn enter(
        &mut self,
        number: usize,
        rows: &Rows<'_>,
        values: &[f64],
        inside: Option<&[u64]>,
        whole: bool,
        weights: &mut [f64],
    ) {
        if whole && let Some(inside) = inside {
            clean_some(values, inside, 1, weights);
            self.out_of_frame.extend(number, rows, weights);
        }
        self.bad += match inside {
            Some(inside) => clean_some(values, inside, 0, weights),
            None => clean(values, weights),
        };
        self.in_frame.extend(number, rows, weights);
    }
}

/// The books of one column over all blocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    /// Values in the frame that are not finite.
    pub(crate) bad: usize,
    /// Sum of the finite values in the frame.
    pub(crate) in_frame: Sum,
    /// Sum of the finite values of all other particles.
    pub(crate) out_of_frame: Sum,
}

impl Total {
    /// Adds those of a block.
    pub(crate) fn merge(&mut self, account: &Account) {
        self.bad += account.bad;
        self.in_frame.merge(account.in_frame.total());
        self.out_of_frame.merge(account.out_of_frame.total());
    }
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

/// The finite values of those inside, or of those outside where `flip` is 1, zero in place of
/// others; how many of these were not finite.
#[inline(always)]
fn clean_some(values: &[f64], inside: &[u64], flip: u64, target: &mut [f64]) -> usize {
    let mut bad = 0;
    for ((target, &value), &inside) in target.iter_mut().zip(values).zip(inside) {
        let chosen = inside ^ flip;
        *target = keep_if(chosen & finite(value), value);
        bad += chosen & (1 - finite(value));
    }
    bad as usize
}

/// Zero in place of the divisors of values that are not finite.
#[inline(always)]
pub(crate) fn keep_finite(values: &[f64], divisors: &mut [f64]) {
    for (divisor, &value) in divisors.iter_mut().zip(values) {
        *divisor = keep_if(finite(value), *divisor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;

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
                        tally.extend_all(range.start, &kept[range]);
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
