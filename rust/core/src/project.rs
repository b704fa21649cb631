//! From the particles of a box to maps of an object, in one pass.

use crate::bin2d::{Real, accumulate};
use crate::cull::Framed;
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
    /// Per channel: particles, anywhere, whose weight is NaN or infinite.
    pub bad_weight: Vec<usize>,
    /// Per channel: sum of the finite weights of all particles.
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

/// Recentres, unwraps, turns, culls and bins, without temporaries of the length of the input.
///
/// # Errors
/// Those of [`Grid::new`] for `bins` and `bin_scale`, and [`Error::Length`] for a channel without
/// one entry per particle, [`Error::Range`] without channels, [`Error::Memory`], [`Error::Pool`].
pub fn project<T: Real>(
    coordinates: &[[T; 3]],
    weights: &[Channel<'_>],
    frame: &Frame,
    bins: [usize; 2],
    bin_scale: f64,
    threads: Threads,
) -> Result<Projection, Error> {
    let grid = Grid::new(
        frame.half_width().map(|half| [-half, half]),
        bins,
        bin_scale,
    )?;
    let framed = Framed {
        points: coordinates,
        frame,
    };
    let summed = accumulate(&framed, weights, &grid, threads)?;
    Ok(Projection {
        maps: summed.maps,
        ledger: Ledger {
            read: coordinates.len(),
            in_frame: summed.in_frame,
            bad_coordinates: summed.bad_coordinates,
            bad_weight: summed.bad_weight,
            sum_read: summed.sum_read,
            sum_in_frame: summed.sum_in_frame,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

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
        let weights = [Channel::F64(&masses), Channel::F32(&heat)];
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
        let weights = [Channel::F64(&[1.0])];
        let result = project(&[[0.0; 3]], &weights, &frame, [4, 4], 1.0, Threads::SERIAL).unwrap();
        assert_eq!(result.maps[2 * 4 + 2], 1.0);
    }
}
