//! The spin of the particles in a sphere.

use crate::error::check_length;
use crate::frame::{Origin, cross, dot};
use crate::rotate::disk_normal;
use crate::values::Real;
use crate::{Error, Threads, Vector};

/// How particles turn about a centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spin {
    /// Particles used.
    pub count: usize,
    /// Their mass-weighted mean velocity; NaN without particles.
    pub mean_velocity: Vector,
    /// Direction of the sum of their angular momenta; zero where there is none.
    pub normal: Vector,
    /// That sum.
    pub momentum: Vector,
    /// Sum of the lengths of the angular momenta.
    pub of_lengths: f64,
    /// Sum of `w |d| |v|`, which rounding is a share of.
    pub of_speeds: f64,
}

/// A sphere about a centre, and the factor that makes velocities of what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Sphere {
    /// Its centre.
    pub center: Vector,
    /// Its radius.
    pub radius: f64,
    /// Period of the box, if it has one.
    pub box_size: Option<f64>,
    /// What velocities are multiplied by.
    pub velocity_factor: f64,
}

/// The spin of the finite particles with a mass above 0 inside a sphere, about its centre and in
/// the frame of their mean velocity; angular momenta are weighted by mass or not at all.
///
/// Sums have the bits of NumPy's over arrays of these particles: vectors one after the other,
/// numbers in pairs of blocks.
///
/// # Errors
/// [`Error::Length`] when the arrays differ in length, [`Error::NonFinite`] for `center`,
/// [`Error::Range`] for a `radius`, `box_size` or `velocity_factor` that is not positive.
pub fn spin<P: Real, V: Real, M: Real>(
    coordinates: &[[P; 3]],
    velocities: &[[V; 3]],
    masses: &[M],
    sphere: &Sphere,
    by_mass: bool,
) -> Result<Spin, Error> {
    let n = coordinates.len();
    check_length("velocities", velocities.len(), n)?;
    check_length("masses", masses.len(), n)?;
    let origin = Origin::new(sphere.center, sphere.box_size)?;
    check_positive("radius", sphere.radius)?;
    check_positive("velocity_factor", sphere.velocity_factor)?;
    let within = sphere.radius * sphere.radius;
    let (mut offsets, mut speeds, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    let mut sum = [0.0; 3];
    for ((point, velocity), &mass) in coordinates.iter().zip(velocities).zip(masses) {
        let d = origin.image(point);
        let (v, m) = (velocity.map(Real::wide), mass.wide());
        // a NaN is in no sphere and above nothing
        let is_in = dot(&d, &d) < within && m > 0.0;
        if is_in && m.is_finite() && v.iter().all(|v| v.is_finite()) {
            let v = v.map(|v| v * sphere.velocity_factor);
            for (total, v) in sum.iter_mut().zip(v) {
                *total += m * v;
            }
            offsets.push(d);
            speeds.push(v);
            weights.push(m);
        }
    }
    let mass = pairwise(&weights);
    let bulk = sum.map(|v| v / mass);
    if !by_mass {
        weights.fill(1.0);
    }
    let mut total = [0.0; 3];
    let mut lengths = Vec::with_capacity(weights.len());
    let mut of_speeds = 0.0;
    for ((d, v), &w) in offsets.iter().zip(&speeds).zip(&weights) {
        let l = cross(d, &[0, 1, 2].map(|k| v[k] - bulk[k])).map(|l| w * l);
        for (total, l) in total.iter_mut().zip(l) {
            *total += l;
        }
        lengths.push(dot(&l, &l).sqrt());
        of_speeds += w * (dot(d, d) * dot(v, v)).sqrt();
    }
    let serial = Threads::SERIAL;
    let normal = match disk_normal(&offsets, &speeds, &weights, [0.0; 3], bulk, None, serial) {
        Err(Error::Empty { .. } | Error::NonFinite { .. } | Error::Overflow { .. }) => [0.0; 3],
        found => found?,
    };
    Ok(Spin {
        count: weights.len(),
        mean_velocity: bulk,
        normal,
        momentum: total,
        of_lengths: pairwise(&lengths),
        of_speeds,
    })
}

fn check_positive(name: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::range(name, &value, "finite and > 0"))
}

/// A sum whose rounding grows with the logarithm of the number of values.
fn pairwise(values: &[f64]) -> f64 {
    const LANES: usize = 8;
    let n = values.len();
    if n > 128 {
        let half = n / 2 - n / 2 % LANES;
        return pairwise(&values[..half]) + pairwise(&values[half..]);
    }
    let (chunks, rest) = values.as_chunks::<LANES>();
    let Some((first, others)) = chunks.split_first() else {
        return rest.iter().fold(0.0, |sum, value| sum + value);
    };
    let mut lanes = *first;
    for chunk in others {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    rest.iter().fold(sum, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SPHERE: Sphere = Sphere {
        center: [0.5, 0.0, 0.0],
        radius: 2.0,
        box_size: Some(10.0),
        velocity_factor: 0.5,
    };

    #[test]
    fn a_turning_ring_that_moves_has_its_axis_and_its_velocity() {
        let points = [
            [1.5, 0.0, 0.0],
            [0.5, 1.0, 0.0],
            [9.5, 0.0, 0.0],
            [0.5, 9.0, 0.0],
        ];
        let speeds = [
            [6.0, 2.0, 0.0],
            [4.0, 0.0, 0.0],
            [6.0, -2.0, 0.0],
            [8.0, 0.0, 0.0_f32],
        ];
        let found = spin(&points, &speeds, &[1.0; 4], &SPHERE, true).unwrap();
        assert_eq!(found.count, 4);
        assert_eq!(found.mean_velocity, [3.0, 0.0, 0.0]);
        assert_eq!(found.normal, [0.0, 0.0, 1.0]);
        assert_eq!(found.momentum, [0.0, 0.0, 4.0]);
        assert_eq!(found.of_lengths, 4.0);
    }

    #[test]
    fn particles_without_mass_value_or_place_are_not_counted() {
        let points = [[0.5, 0.0, 0.0], [3.0, 0.0, 0.0], [f64::NAN, 0.0, 0.0]];
        let count = |v: f64, m: f64| {
            let found = spin(&points, &[[v, 0.0, 0.0]; 3], &[m; 3], &SPHERE, true);
            found.unwrap().count
        };
        assert_eq!(count(1.0, 1.0), 1);
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!([count(bad, 1.0), count(1.0, bad)], [0, 0]);
        }
        assert_eq!([count(1.0, 0.0), count(1.0, -1.0)], [0, 0]);
    }

    #[test]
    fn a_sphere_is_finite_and_not_empty() {
        for radius in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let sphere = Sphere { radius, ..SPHERE };
            let found = spin::<f64, f64, f64>(&[], &[], &[], &sphere, true);
            assert!(matches!(found, Err(Error::Range { name: "radius", .. })));
        }
    }
}
