//! From the particles of a box to maps of an object, in one pass.

use crate::accumulate::{Accumulator, Cells, Summed, View};
use crate::deposit::{Deposit, Histogram, Layered, Smoothed};
use crate::grid::{Flat, Grid};
use crate::simd::Level;
use crate::values::Real;
use crate::{Channel, Error, Frame, Threads};

/// Where the particles and their weights went: what was read is in the frame, out of it or has bad
/// coordinates. Entries per column are those of the maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// Particles given.
    pub read: usize,
    /// Particles with finite coordinates in the frame.
    pub in_frame: usize,
    /// Particles with finite coordinates that are not in the frame.
    pub out_of_frame: usize,
    /// Particles with a NaN or infinite coordinate.
    pub bad_coordinates: usize,
    /// Per column: particles in the frame whose weight is NaN or infinite.
    pub bad_weight: Vec<usize>,
    /// Per column: sum of the finite weights of the particles in the frame.
    pub sum_in_frame: Vec<f64>,
    /// Per column: sum of the finite weights of all others, those with bad coordinates included;
    /// empty where only weights of particles in the frame were looked at.
    pub sum_out_of_frame: Vec<f64>,
}

/// Maps, column by column with x the slow axis, and their ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Projection {
    /// Sums of weights per pixel.
    pub maps: Vec<f64>,
    /// Where the particles went.
    pub ledger: Ledger,
}

/// How particles are put into maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// A particle is a point.
    #[default]
    Histogram,
    /// A particle is spread over a cubic spline whose support is 2.5 radii of a sphere of its
    /// volume. In the frame, for the ledger, is what reaches into the picture from within the
    /// depth; one whose volume is negative or not finite counts as one with bad coordinates.
    Smoothed,
}

/// Maps, one for each frame, that grow by one segment of particles after the other.
///
/// Recentres, unwraps, turns, culls and bins, without temporaries of the length of the input. The
/// bits of a map depend on the particles, their order and its frame alone, not on how they come in
/// segments nor on the other frames.
pub struct Projector {
    sums: Sums,
    whole: bool,
}

enum Sums {
    Histogram(Accumulator<Flat, Histogram>),
    Smoothed(Accumulator<Layered, Smoothed>),
}

/// Pictures without particles.
fn begin<G: Grid, D: Deposit<G>>(
    frames: &[Frame],
    grid: impl Fn(&Frame) -> Result<G, Error>,
    columns: usize,
    whole: bool,
) -> Result<Accumulator<G, D>, Error> {
    let view = |frame: &Frame| {
        Ok(View {
            frame: *frame,
            grid: grid(frame)?,
        })
    };
    let views = frames.iter().map(view).collect::<Result<_, _>>()?;
    Accumulator::new(views, columns, whole)
}

impl Projector {
    /// Maps without particles: for every frame `columns` of `bins`.
    ///
    /// Weights are looked at of particles in a frame only, so that others need not be there to be
    /// read, unless the ledger is to be `whole`.
    ///
    /// # Errors
    /// [`Error::Range`] for no columns, no bins, more than 2^28 pixels, a `bin_scale` outside
    /// (0, 1], and, of cells with a size, pixels that are not square.
    pub fn new(
        way: Way,
        frames: &[Frame],
        bins: [usize; 2],
        bin_scale: f64,
        columns: usize,
        whole: bool,
    ) -> Result<Self, Error> {
        let flat = |frame: &Frame| {
            let extent = frame.half_width().map(|half| [-half, half]);
            Flat::new(extent, bins, bin_scale)
        };
        let sums = match way {
            Way::Histogram => Sums::Histogram(begin(frames, flat, columns, whole)?),
            Way::Smoothed => {
                let layered = |frame: &Frame| Layered::new(flat(frame)?);
                Sums::Smoothed(begin(frames, layered, columns, whole)?)
            }
        };
        Ok(Self { sums, whole })
    }

    /// The same, with these vector instructions instead of the best ones.
    #[must_use]
    pub fn with_level(self, level: Level) -> Self {
        let sums = match self.sums {
            Sums::Histogram(sums) => Sums::Histogram(sums.with_level(level)),
            Sums::Smoothed(sums) => Sums::Smoothed(sums.with_level(level)),
        };
        Self { sums, ..self }
    }

    /// Adds the particles that follow those added before; with their volumes, in the unit of the
    /// coordinates cubed, where they have a size.
    ///
    /// # Errors
    /// [`Error::Length`] for a field without one entry per particle or another number of columns,
    /// [`Error::Range`] for volumes that are missing or not asked for, [`Error::Memory`],
    /// [`Error::Pool`].
    pub fn add<T: Real>(
        &mut self,
        coordinates: &[[T; 3]],
        volumes: Option<&Channel<'_>>,
        weights: &[Channel<'_>],
        threads: Threads,
    ) -> Result<(), Error> {
        let cells = Cells {
            channels: weights,
            volumes,
        };
        match (&mut self.sums, volumes) {
            (Sums::Histogram(sums), None) => sums.add(coordinates, &cells, threads),
            (Sums::Smoothed(sums), Some(_)) => sums.add(coordinates, &cells, threads),
            (Sums::Histogram(_), Some(_)) => {
                let allowed = "none for the deposit histogram: its particles are points";
                Err(Error::range("volumes", &"given", allowed))
            }
            (Sums::Smoothed(_), None) => {
                let allowed = "one per particle for the deposit smoothed";
                Err(Error::range("volumes", &"none", allowed))
            }
        }
    }

    /// The maps of all particles added, frame by frame.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn finish(self) -> Result<Vec<Projection>, Error> {
        let (read, made) = match self.sums {
            Sums::Histogram(sums) => (sums.read(), sums.finish()?),
            Sums::Smoothed(sums) => (sums.read(), sums.finish()?),
        };
        let made = made.into_iter();
        Ok(made
            .map(|summed| closed(summed, read, self.whole))
            .collect())
    }
}

/// A map with its ledger.
fn closed(summed: Summed, read: usize, whole: bool) -> Projection {
    let columns = &summed.columns;
    let all_weights = if whole { &columns[..] } else { &[] };
    let ledger = Ledger {
        read,
        in_frame: summed.in_frame,
        out_of_frame: read - summed.in_frame - summed.bad_coordinates,
        bad_coordinates: summed.bad_coordinates,
        bad_weight: columns.iter().map(|total| total.bad).collect(),
        sum_in_frame: columns.iter().map(|t| t.in_frame.value()).collect(),
        sum_out_of_frame: all_weights.iter().map(|t| t.out_of_frame.value()).collect(),
    };
    Projection {
        maps: summed.maps,
        ledger,
    }
}

/// Maps of particles that are all at hand, in one frame and with a whole ledger.
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
    let mut projector = Projector::new(Way::Histogram, &[*frame], bins, bin_scale, columns, true)?;
    projector.add(coordinates, None, weights, threads)?;
    Ok(projector.finish()?.swap_remove(0))
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
                out_of_frame: 2,
                bad_coordinates: 2,
                bad_weight: vec![0, 1],
                sum_in_frame: vec![3.0, 1.0],
                sum_out_of_frame: vec![60.0, 3.0],
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
                    let projector =
                        Projector::new(Way::Histogram, &[frame], [64; 2], 0.99, 2, false).unwrap();
                    let mut projector = projector.with_level(level);
                    projector
                        .add(&points, None, &channels, Threads::SERIAL)
                        .unwrap();
                    let found = projector.finish().unwrap().swap_remove(0);
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

    fn count(points: &[[f64; 3]], half: [f64; 2], bins: [usize; 2]) -> Vec<f64> {
        let frame = Frame::new([0.0; 3], None, None, half, None).unwrap();
        let ones = vec![1.0; points.len()];
        let weights = [Channel::from(&ones[..])];
        project(points, &weights, &frame, bins, 1.0, Threads::SERIAL)
            .unwrap()
            .maps
    }

    #[test]
    fn x_is_the_slow_axis() {
        let maps = count(&[[1.5, -0.5, 0.0], [-1.5, 0.5, 0.0]], [2.0, 1.0], [4, 2]);
        assert_eq!(maps, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn bins_are_half_open() {
        let xs = [-2.0, -1.0, (-1.0_f64).next_down(), 2.0_f64.next_down(), 2.0];
        let points = xs.map(|x| [x, 0.0, 0.0]);
        assert_eq!(count(&points, [2.0, 1.0], [4, 1]), [2.0, 1.0, 0.0, 1.0]);
        assert_eq!(count(&[[0.0, 1.0, 0.0]], [2.0, 1.0], [4, 1]), [0.0; 4]);
    }

    #[test]
    fn no_particles_give_zeros() {
        assert_eq!(count(&[], [1.0; 2], [2, 2]), [0.0; 4]);
    }

    #[test]
    fn lengths_are_checked() {
        let frame = Frame::new([0.0; 3], None, None, [1.0; 2], None).unwrap();
        let run = |weights: &[Channel<'_>]| {
            let points = [[0.0_f32; 3]];
            project(&points, weights, &frame, [1; 2], 1.0, Threads::SERIAL).err()
        };
        assert!(matches!(
            run(&[]),
            Some(Error::Range {
                name: "weights",
                ..
            })
        ));
        let weights = [Channel::from(&[1.0_f32][..]), Channel::from(&[] as &[f64])];
        assert!(matches!(
            run(&weights),
            Some(Error::Length { name, got: 0, expected: 1 }) if name == "weights[1]"
        ));
    }

    #[test]
    fn a_mean_divides_by_the_weights_of_the_particles_that_have_a_value() {
        let values = [1.0, f64::NAN, 3.0, 5.0, 7.0];
        let weights = [1.0, 2.0, 4.0, f64::INFINITY, 16.0];
        let forming = [0.0, 0.0, 0.0, 0.0, 1.0];
        let mean = Channel {
            times: Some(Quantity::Stored(Values::F64(&weights))),
            without: Some(Values::F64(&forming)),
            is_mean: true,
            ..Channel::from(&values[..])
        };
        let frame = Frame::new([0.0; 3], None, None, [1.0; 2], None).unwrap();
        let points = [[0.0; 3]; 5];
        let made = project(&points, &[mean], &frame, [1; 2], 1.0, Threads::SERIAL).unwrap();
        assert_eq!(made.maps, [13.0, 5.0]);
        assert_eq!(made.ledger.bad_weight, [2, 0]);
    }

    #[test]
    fn frames_in_one_pass_give_the_bits_of_each_alone() {
        let n = 2 * crate::BLOCK + 777;
        let number = |k: usize| (k as f64 * 0.618_033_988_749).fract();
        let points: Vec<[f64; 3]> = (0..n)
            .map(|k| [1, 7, 13].map(|step| 5.0 * number(k * step) - 2.5))
            .collect();
        let masses: Vec<f64> = (0..n).map(|k| 1e-3 + number(k * 3)).collect();
        let channels = [
            Channel::from(&masses[..]),
            Channel {
                is_mean: true,
                ..Channel::from(&masses[..])
            },
        ];
        let frames = [(0.0, 1.0), (0.7, 0.3), (-2.0, 4.0)].map(|(center, half)| {
            Frame::new([center; 3], Some(5.0), None, [half; 2], Some(1.0)).unwrap()
        });
        for threads in [Threads::SERIAL, Threads::new(Some(3)).unwrap()] {
            for whole in [false, true] {
                let shoot = |frames: &[Frame]| {
                    let mut projector =
                        Projector::new(Way::Histogram, frames, [9; 2], 0.99, 3, whole).unwrap();
                    projector.add(&points, None, &channels, threads).unwrap();
                    projector.finish().unwrap()
                };
                let alone = frames.map(|frame| shoot(&[frame]).swap_remove(0));
                assert_eq!(shoot(&frames), alone);
                assert!(shoot(&[]).is_empty());
            }
        }
    }
}
