//! Which particles are in a frame.

use std::ops::Range;

use crate::batch::Batch;
use crate::parallel::map_blocks;
use crate::simd::{Level, Task};
use crate::values::Real;
use crate::{Error, Frame, Threads};

/// The particles of a range on their way into a list.
struct Find<'a, T> {
    points: &'a [[T; 3]],
    frame: &'a Frame,
    range: Range<usize>,
    found: &'a mut Vec<i64>,
}

impl<T: Real> Task for Find<'_, T> {
    #[inline(always)]
    fn run(self) {
        let mut batch = Batch::default();
        for range in Batch::ranges(self.range, 0) {
            let (first, n) = (range.start as i64, range.len());
            self.frame.select(&self.points[range], &mut batch);
            if batch.count(n) > 0 {
                let len = batch.keep(n);
                let at = batch.kept(len);
                self.found
                    .extend(at.iter().map(|&at| first + i64::from(at)));
            }
        }
    }
}

/// Indices of the particles in `frame`, ascending.
///
/// # Errors
/// [`Error::Pool`] when the threads cannot be started.
pub fn cull_box<T: Real>(
    coordinates: &[[T; 3]],
    frame: &Frame,
    threads: Threads,
) -> Result<Vec<i64>, Error> {
    let level = Level::best();
    let mut parts = map_blocks(coordinates.len(), threads, |range| {
        let mut found = Vec::new();
        level.run(Find {
            points: coordinates,
            frame,
            range,
            found: &mut found,
        });
        found
    })?;
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    Ok(parts.concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn frame(half: f64, box_size: Option<f64>, depth: Option<f64>) -> Frame {
        Frame::new([0.0; 3], box_size, None, [half; 2], depth).unwrap()
    }

    fn cull(points: &[[f64; 3]], frame: &Frame) -> Vec<i64> {
        cull_box(points, frame, Threads::SERIAL).unwrap()
    }

    #[test]
    fn edges_are_half_open() {
        let below = 1.0_f64.next_down();
        let points = [
            [-1.0, 0.0, 0.0],
            [1.0, 0.0, 0.0],
            [below, below, below],
            [0.0, 1.0, 0.0],
            [0.0, -1.0, 0.0],
            [0.0, 0.0, 1.0],
            [0.0, 0.0, -1.0],
        ];
        assert_eq!(cull(&points, &frame(1.0, None, None)), [0, 2, 4, 5, 6]);
        assert_eq!(cull(&points, &frame(1.0, None, Some(1.0))), [0, 2, 4, 6]);
    }

    #[test]
    fn the_box_wraps_any_number_of_times() {
        let f = frame(1.0, Some(10.0), None);
        let points = [[9.5, 0.0, 0.0], [-29.5, 40.0, 0.0], [5.0, 0.0, 0.0]];
        assert_eq!(cull(&points, &f), [0, 1]);
    }

    #[test]
    fn bad_and_huge_coordinates_are_in_no_frame() {
        for box_size in [None, Some(10.0), Some(1e-300)] {
            let f = frame(1.0, box_size, None);
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for axis in 0..3 {
                    let mut p = [0.0; 3];
                    p[axis] = bad;
                    assert!(cull(&[p], &f).is_empty());
                }
            }
        }
        assert!(cull(&[[1e300, 0.0, 0.0]], &frame(1.0, None, None)).is_empty());
        assert!(cull(&[[f64::MAX, 0.0, 0.0]], &frame(1.0, Some(1e-300), None)).is_empty());
    }
}
