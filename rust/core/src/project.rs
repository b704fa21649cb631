//! From the particles of a box to maps of an object, in one pass.

use crate::accumulate::{Accumulator, Books};
use crate::cull::Framed;
use crate::simd::Level;
use crate::values::Real;
use crate::{Channel, Error, Frame, Grid, Threads};

/// Where the particles and their weights went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// Particles given.
    pub read: usize,
    /// Particles with finite coordinates in the frame.
    pub in_frame: usize,
    /// Particles with a NaN or infinite coordinate.
    pub bad_coordinates: usize,
    /// Per channel: particles whose weight is NaN or infinite, among those whose weights were
    /// looked at.
    pub bad_weight: Vec<usize>,
    /// Per channel: sum of the finite weights of all particles; empty where only those of
    /// particles in the frame were looked at.
    pub sum_read: Vec<f64>,
    /// Per channel: sum of the finite weights of the particles in the frame.
    pub sum_in_frame: Vec<f64>,
}

/// Maps, channel by channel with x the slow axis, and their ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Projection {
    /// Sums of weights per pixel.
    pub maps: Vec<f64>,
    /// Where the particles went.
    pub ledger: Ledger,
}

/// Maps that grow by one segment of particles after the other.
///
/// Recentres, unwraps, turns, culls and bins, without temporaries of the length of the input. The
/// bits of the result depend on the particles and their order alone, not on how they come in
/// segments. Weights are read only of particles in the frame, so the ledger's `sum_read` is empty
/// and its `bad_weight` counts those in the frame.
pub struct Projector {
    frame: Frame,
    sums: Accumulator,
}

impl Projector {
    /// Maps without particles.
    ///
    /// # Errors
    /// Those of [`Grid::new`] for `bins` and `bin_scale`, and [`Error::Range`] without channels.
    pub fn new(
        frame: Frame,
        bins: [usize; 2],
        bin_scale: f64,
        columns: usize,
    ) -> Result<Self, Error> {
        Self::with(frame, bins, bin_scale, columns, Books::InFrame)
    }

    /// The same, with these vector instructions instead of the best ones.
    #[must_use]
    pub fn with_level(self, level: Level) -> Self {
        Self {
            sums: self.sums.with_level(level),
            ..self
        }
    }

    fn with(
        frame: Frame,
        bins: [usize; 2],
        bin_scale: f64,
        columns: usize,
        books: Books,
    ) -> Result<Self, Error> {
        let extent = frame.half_width().map(|half| [-half, half]);
        let grid = Grid::new(extent, bins, bin_scale)?;
        Ok(Self {
            frame,
            sums: Accumulator::new(grid, columns, books)?,
        })
    }

    /// Adds the particles that follow those added before.
    ///
    /// # Errors
    /// [`Error::Length`] for a field without one entry per particle or another number of channels,
    /// [`Error::Memory`], [`Error::Pool`].
    pub fn add<T: Real>(
        &mut self,
        coordinates: &[[T; 3]],
        weights: &[Channel<'_>],
        threads: Threads,
    ) -> Result<(), Error> {
        let framed = Framed {
            points: coordinates,
            frame: &self.frame,
        };
        self.sums.add(&framed, weights, threads)
    }

    /// The maps of all particles added.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn finish(self) -> Result<Projection, Error> {
        let summed = self.sums.finish()?;
        Ok(Projection {
            maps: summed.maps,
            ledger: Ledger {
                read: summed.read,
                in_frame: summed.in_frame,
                bad_coordinates: summed.bad_coordinates,
                bad_weight: summed.bad_weight,
                sum_read: summed.sum_read,
                sum_in_frame: summed.sum_in_frame,
            },
        })
    }
}

/// Maps of particles that are all at hand, with the books of all their weights.
///
/// # Errors
/// Those of [`Projector`].
pub fn project<T: Real>(
    coordinates: &[[T; 3]],
    weights: &[Channel<'_>],
    frame: &Frame,
    bins: [usize; 2],
    bin_scale: f64,
    threads: Threads,
) -> Result<Projection, Error> {
    let columns = weights.iter().map(Channel::columns).sum();
    let mut projector = Projector::with(*frame, bins, bin_scale, columns, Books::All)?;
    projector.add(coordinates, weights, threads)?;
    projector.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Quantity, Thermal, Values};

    #[test]
    fn the_ledger_adds_up() {
        let points = [
            [0.5_f32, 0.5, 0.0],
            [99.5, 0.5, 0.0],
            [50.0, 0.0, 0.0],
            [f32::NAN, 0.0, 0.0],
            [0.5, 0.5, 9.0],
            [0.5, 0.5, f32::INFINITY],
        ];
        let masses = [1.0_f64, 2.0, 4.0, 8.0, 16.0, 32.0];
        let heat = [1.0_f32, f32::NAN, f32::INFINITY, 1.0, 1.0, 1.0];
        let frame = Frame::new([0.0; 3], Some(100.0), None, [1.0; 2], Some(2.0)).unwrap();
        let weights = [Channel::from(&masses[..]), Channel::from(&heat[..])];
        let result = project(&points, &weights, &frame, [2, 1], 1.0, Threads::SERIAL).unwrap();
        assert_eq!(result.maps, [2.0, 1.0, 0.0, 1.0]);
        assert_eq!(
            result.ledger,
            Ledger {
                read: 6,
                in_frame: 2,
                bad_coordinates: 2,
                bad_weight: vec![0, 2],
                sum_read: vec![63.0, 4.0],
                sum_in_frame: vec![3.0, 1.0],
            }
        );
    }

    #[test]
    fn the_smallest_frame_still_has_bins() {
        let half = f64::MIN_POSITIVE;
        let frame = Frame::new([0.0; 3], None, None, [half; 2], None).unwrap();
        let weights = [Channel::from(&[1.0_f64][..])];
        let result = project(&[[0.0; 3]], &weights, &frame, [4, 4], 1.0, Threads::SERIAL).unwrap();
        assert_eq!(result.maps[2 * 4 + 2], 1.0);
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let n = crate::BLOCK + 777;
        let number = |k: usize| (k as f64 * 0.618_033_988_749).fract();
        for reach in [3.0, 30.0] {
            let points: Vec<[f32; 3]> = (0..n)
                .map(|k| [1, 7, 13].map(|step| (reach * (number(k * step) - 0.5)) as f32))
                .collect();
            let field = |seed: usize| -> Vec<f32> {
                (0..n).map(|k| 1e-3 + number(k * 3 + seed) as f32).collect()
            };
            let (energy, electrons, density) = (field(1), field(2), field(3));
            let thermal = Thermal {
                energy: Values::F32(&energy),
                electrons: Values::F32(&electrons),
                factor: 47.5,
                mu: [4.0, 3.28, 3.04],
            };
            let entropy = Channel {
                log10: true,
                ..Quantity::Entropy {
                    thermal,
                    density: Values::F32(&density),
                    density_factor: 140.0,
                    of_electrons: true,
                    factor: 8.6e-8,
                }
                .into()
            };
            let channels = [entropy, Quantity::Temperature(thermal).into()];
            let frame = Frame::new([0.1; 3], Some(40.0), None, [1.0; 2], None).unwrap();
            let shots: Vec<Vec<u64>> = Level::available()
                .into_iter()
                .map(|level| {
                    let projector = Projector::new(frame, [64; 2], 0.99, 2).unwrap();
                    let mut projector = projector.with_level(level);
                    projector.add(&points, &channels, Threads::SERIAL).unwrap();
                    let found = projector.finish().unwrap();
                    let sums = found.ledger.sum_in_frame;
                    found
                        .maps
                        .iter()
                        .chain(&sums)
                        .map(|v| v.to_bits())
                        .collect()
                })
                .collect();
            assert!(shots.iter().all(|shot| *shot == shots[0]));
        }
    }
}
