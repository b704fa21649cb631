//! Which way a disk lies, and turning it.

use crate::error::{check_finite, check_length};
use crate::frame::{Origin, check_rotation, cross, dot};
use crate::parallel::{BLOCK, count_blocks, map_blocks, zeros};
use crate::values::Real;
use crate::{Error, Matrix, Threads, Vector};
use rayon::prelude::*;

/// Unit vector along the angular momentum, the sum of `m d x (v - bulk_velocity)`.
///
/// `d` is the minimum image about `center` of a box of `box_size`, if one is given.
///
/// # Errors
/// [`Error::Length`] when the arrays differ in length, [`Error::NonFinite`] for any entry that is
/// NaN or infinite, [`Error::Range`] for a `box_size` that is not positive, [`Error::Empty`]
/// without particles and when the sum is zero, [`Error::Overflow`] when it does not fit a double.
pub fn disk_normal<P: Real, V: Real, M: Real>(
    coordinates: &[[P; 3]],
    velocities: &[[V; 3]],
    masses: &[M],
    center: Vector,
    bulk_velocity: Vector,
    box_size: Option<f64>,
    threads: Threads,
) -> Result<Vector, Error> {
    let n = coordinates.len();
    check_length("velocities", velocities.len(), n)?;
    check_length("masses", masses.len(), n)?;
    let origin = Origin::new(center, box_size)?;
    check_finite("bulk_velocity", &bulk_velocity)?;
    if n == 0 {
        return Err(Error::Empty {
            name: "coordinates",
            why: "no particles to take an angular momentum from",
        });
    }
    let parts = map_blocks(n, threads, |block| {
        let start = block.start;
        let mut sum = [0.0; 3];
        let particles = coordinates[block.clone()]
            .iter()
            .zip(&velocities[block.clone()])
            .zip(&masses[block]);
        for (at, ((point, velocity), &mass)) in particles.enumerate() {
            let name = if !point.iter().all(|v| v.is_finite()) {
                "coordinates"
            } else if !velocity.iter().all(|v| v.is_finite()) {
                "velocities"
            } else if !mass.is_finite() {
                "masses"
            } else {
                let l = cross(
                    &origin.image(point),
                    &[0, 1, 2].map(|k| velocity[k].wide() - bulk_velocity[k]),
                );
                for (total, part) in sum.iter_mut().zip(l) {
                    *total += mass.wide() * part;
                }
                continue;
            };
            return Err(Error::NonFinite {
                name,
                index: start + at,
            });
        }
        Ok(sum)
    })?;
    let mut sum = [0.0; 3];
    for part in parts {
        for (total, part) in sum.iter_mut().zip(part?) {
            *total += part;
        }
    }
    if !sum.iter().all(|v| v.is_finite()) {
        return Err(Error::Overflow {
            name: "angular momentum",
        });
    }
    unit(sum).ok_or(Error::Empty {
        name: "angular momentum",
        why: "it is zero, the disk has no direction",
    })
}

/// The smallest rotation that takes `normal`, of any length, to +z.
///
/// For -z, where many are equally small, the half turn about x.
///
/// # Errors
/// [`Error::NonFinite`] for a NaN or infinite component, [`Error::Empty`] for a zero vector.
pub fn face_on_rotation(normal: Vector) -> Result<Matrix, Error> {
    check_finite("normal", &normal)?;
    let [x, y, c] = unit(normal).ok_or(Error::Empty {
        name: "normal",
        why: "a zero vector has no direction",
    })?;
    // Turning about (y, -x, 0) by the angle from z. In terms of the direction (u, v) of the
    // tilt nothing is divided by 1 + c, which vanishes at -z.
    let s = x.hypot(y);
    let (u, v) = if s > 0.0 { (x / s, y / s) } else { (0.0, 1.0) };
    let cross = u * v * (c - 1.0);
    let matrix = [
        [c * u * u + v * v, cross, -x],
        [cross, u * u + c * v * v, -y],
        [x, y, c],
    ];
    // No negative zeros.
    Ok(matrix.map(|row| row.map(|value| value + 0.0)))
}

/// `rotation` times every offset from `origin`, as x, y, z of each particle in turn.
///
/// Without a `center` the coordinates themselves are turned. NaN and infinity pass through.
///
/// # Errors
/// [`Error::NonFinite`] for `center` and `rotation`; [`Error::Range`] for a `rotation` that is
/// none, a `box_size` that is not positive or comes without a `center`; [`Error::Memory`], [`Error::Pool`].
pub fn rotate<T: Real>(
    coordinates: &[[T; 3]],
    rotation: &Matrix,
    center: Option<Vector>,
    box_size: Option<f64>,
    threads: Threads,
) -> Result<Vec<f64>, Error> {
    if let (None, Some(size)) = (center, box_size) {
        return Err(Error::range(
            "box_size",
            &size,
            "None unless there is a center to unwrap the box about",
        ));
    }
    let origin = Origin::new(center.unwrap_or([0.0; 3]), box_size)?;
    check_rotation(rotation)?;
    let mut rotated = zeros(3 * coordinates.len())?;
    let turn = |(target, points): (&mut [f64], &[[T; 3]])| {
        for (q, point) in target.as_chunks_mut::<3>().0.iter_mut().zip(points) {
            let d = origin.image(point);
            *q = [0, 1, 2].map(|k| dot(&rotation[k], &d));
        }
    };
    threads.run(count_blocks(coordinates.len()), |workers| {
        if workers == 1 {
            turn((&mut rotated, coordinates));
        } else {
            rotated
                .par_chunks_mut(3 * BLOCK)
                .zip(coordinates.par_chunks(BLOCK))
                .for_each(turn);
        }
    })?;
    Ok(rotated)
}

/// The vector over its length, whose square may overflow or vanish; none for zero.
fn unit(vector: Vector) -> Option<Vector> {
    let largest = vector.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    if largest == 0.0 {
        return None;
    }
    let scaled = vector.map(|v| v / largest);
    let length = dot(&scaled, &scaled).sqrt();
    Some(scaled.map(|v| v / length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-14
    }

    fn check_rotation_of(normal: Vector) {
        let r = face_on_rotation(normal).unwrap();
        let n = unit(normal).unwrap();
        for (k, expected) in [0.0, 0.0, 1.0].into_iter().enumerate() {
            assert!(close(dot(&r[k], &n), expected), "{normal:?} {r:?}");
        }
        for i in 0..3 {
            for j in 0..3 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!(close(dot(&r[i], &r[j]), expected), "{normal:?} {r:?}");
            }
        }
        assert!(close(dot(&cross(&r[0], &r[1]), &r[2]), 1.0));
        // Smallest: the trace is 1 + 2 cos of the tilt itself.
        assert!(close(r[0][0] + r[1][1] + r[2][2], 1.0 + 2.0 * n[2]));
    }

    #[test]
    fn face_on_is_proper_and_smallest_everywhere() {
        for z in [-1.0, -0.5, -1e-9, 0.0, 1e-9, 0.5, 1.0] {
            for (x, y) in [
                (0.0, 0.0),
                (1e-9, 0.0),
                (-3e-10, 2e-10),
                (1e-200, 1e-200),
                (5e-324, 0.0),
                (0.3, -0.4),
                (0.0, 1e9),
            ] {
                if (x, y, z) == (0.0, 0.0, 0.0) {
                    continue;
                }
                for length in [1.0, 1e-200, 1e200] {
                    let normal = [x * length, y * length, z * length];
                    if normal != [0.0; 3] {
                        check_rotation_of(normal);
                    }
                }
            }
        }
    }

    #[test]
    fn poles_are_exact() {
        assert_eq!(
            face_on_rotation([0.0, 0.0, 5.0]).unwrap(),
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        );
        assert_eq!(
            face_on_rotation([0.0, -0.0, -5.0]).unwrap(),
            [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]
        );
    }

    #[test]
    fn directions_that_do_not_exist_are_errors() {
        assert!(matches!(
            face_on_rotation([0.0; 3]),
            Err(Error::Empty { name: "normal", .. })
        ));
        assert!(matches!(
            face_on_rotation([0.0, f64::NAN, 1.0]),
            Err(Error::NonFinite {
                name: "normal",
                index: 1
            })
        ));
    }

    fn normal(points: &[[f64; 3]], speeds: &[[f32; 3]], masses: &[f64]) -> Result<Vector, Error> {
        disk_normal(
            points,
            speeds,
            masses,
            [0.0; 3],
            [0.0; 3],
            Some(10.0),
            Threads::SERIAL,
        )
    }

    #[test]
    fn a_turning_ring_has_its_axis() {
        let points = [[1.0, 0.0, 0.0], [0.0, 11.0, 0.0], [9.0, 0.0, 0.0]];
        let speeds = [[0.0, 2.0, 0.0], [-2.0, 0.0, 0.0], [0.0, -2.0, 0.0]];
        assert_eq!(normal(&points, &speeds, &[1.0; 3]), Ok([0.0, 0.0, 1.0]));
    }

    #[test]
    fn faults_of_a_disk_are_named() {
        let p = [[1.0, 0.0, 0.0]];
        let v = [[0.0, 1.0, 0.0]];
        let name = |result: Result<Vector, Error>| match result {
            Err(Error::NonFinite { name, .. } | Error::Empty { name, .. }) => name,
            Err(Error::Overflow { name }) => name,
            _ => "",
        };
        assert_eq!(name(normal(&[], &[], &[])), "coordinates");
        assert_eq!(name(normal(&p, &v, &[0.0])), "angular momentum");
        assert_eq!(name(normal(&p, &v, &[f64::NAN])), "masses");
        assert_eq!(
            name(normal(&p, &[[f32::INFINITY; 3]], &[1.0])),
            "velocities"
        );
        assert_eq!(name(normal(&[[f64::NAN; 3]], &v, &[1.0])), "coordinates");
        assert_eq!(
            name(disk_normal(
                &[[1e300, 0.0, 0.0]],
                &[[0.0, 1e300, 0.0]],
                &[1.0],
                [0.0; 3],
                [0.0; 3],
                None,
                Threads::SERIAL
            )),
            "angular momentum"
        );
        assert!(matches!(
            normal(&p, &v, &[]),
            Err(Error::Length {
                got: 0,
                expected: 1,
                ..
            })
        ));
    }

    #[test]
    fn the_first_bad_particle_is_reported() {
        let n = 2 * BLOCK;
        let mut masses = vec![1.0; n];
        masses[BLOCK + 5] = f64::NAN;
        masses[BLOCK + 9] = f64::NAN;
        let result = disk_normal(
            &vec![[1.0, 0.0, 0.0]; n],
            &vec![[0.0, 1.0, 0.0]; n],
            &masses,
            [0.0; 3],
            [0.0; 3],
            None,
            Threads::Shared,
        );
        assert_eq!(
            result,
            Err(Error::NonFinite {
                name: "masses",
                index: BLOCK + 5
            })
        );
    }

    #[test]
    fn rotate_unwraps_about_the_center() {
        let quarter = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
        let turned = rotate(
            &[[9.0_f32, 1.0, 5.0]],
            &quarter,
            Some([1.0, 1.0, 1.0]),
            Some(10.0),
            Threads::SERIAL,
        );
        assert_eq!(turned, Ok(vec![0.0, -2.0, 4.0]));
        assert!(matches!(
            rotate(&[[0.0; 3]], &quarter, None, Some(1.0), Threads::SERIAL),
            Err(Error::Range {
                name: "box_size",
                ..
            })
        ));
    }
}
