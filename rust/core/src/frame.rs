//! The frame of a picture.

use crate::batch::{BATCH, Batch};
use crate::error::check_finite;
use crate::values::Real;
use crate::{Error, Matrix, Vector};

/// How far rows of a rotation may be from orthonormal; some steps of single precision.
const ORTHONORMAL: f64 = 1e-6;
const IDENTITY: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

/// Moves positions into the frame of a centre: minimum image of a periodic box, nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    center: Vector,
    /// 0 without a box.
    box_size: f64,
    half_box: f64,
    /// Offsets up to here are at most one box from their minimum image.
    one_box: f64,
}

impl Origin {
    pub(crate) fn new(center: Vector, box_size: Option<f64>) -> Result<Self, Error> {
        check_finite("center", &center)?;
        let Some(size) = box_size else {
            return Ok(Self {
                center,
                box_size: 0.0,
                half_box: f64::INFINITY,
                one_box: f64::MAX,
            });
        };
        if !(size.is_finite() && size > 0.0) {
            return Err(Error::range("box_size", &size, "None or finite and > 0"));
        }
        // Half a subnormal size may be rounded, which the shortcut does not allow for.
        let exact = size >= 2.0 * f64::MIN_POSITIVE;
        Ok(Self {
            center,
            box_size: size,
            half_box: 0.5 * size,
            one_box: if exact { 1.25 * size } else { -1.0 },
        })
    }

    /// A point as seen from the centre, before unwrapping.
    #[inline(always)]
    fn offset<T: Real>(&self, point: &[T; 3]) -> Vector {
        [0, 1, 2].map(|k| point[k].wide() - self.center[k])
    }

    /// Of particles and a centre in the box all offsets are near.
    #[inline(always)]
    fn is_near(&self, d: &Vector) -> bool {
        (d[0].abs() <= self.one_box) & (d[1].abs() <= self.one_box) & (d[2].abs() <= self.one_box)
    }

    /// Minimum image of a near offset, whose quotient rounds to -1, 0 or 1, and to 0 exactly up to
    /// half a box: the same bits without a division.
    #[inline(always)]
    fn nearest(&self, d: Vector) -> Vector {
        d.map(|v| {
            let up = if v > self.half_box {
                self.box_size
            } else {
                0.0
            };
            let down = if v < -self.half_box {
                self.box_size
            } else {
                0.0
            };
            v - up + down
        })
    }

    /// Minimum image of any offset, `d - size * round(d / size)`.
    #[inline(always)]
    fn minimum_image(&self, d: Vector) -> Vector {
        if self.is_near(&d) {
            self.nearest(d)
        } else {
            self.wrap(d)
        }
    }

    /// Minimum image of a point about the centre.
    #[inline(always)]
    pub(crate) fn image<T: Real>(&self, point: &[T; 3]) -> Vector {
        self.minimum_image(self.offset(point))
    }

    #[cold]
    fn wrap(&self, d: Vector) -> Vector {
        if self.box_size == 0.0 {
            return d;
        }
        d.map(|v| v - self.box_size * (v / self.box_size).round_ties_even())
    }
}

/// A box of `[-half, half)` along the axes of a rotation about a centre.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    origin: Origin,
    rotation: Matrix,
    half_width: [f64; 2],
    depth: Option<f64>,
}

impl Frame {
    /// A frame about `center`, all in the unit of the coordinates.
    ///
    /// `box_size` is the period, `rotation` maps offsets to the frame's axes (none: the box's
    /// own), `half_width` is half the extent in x and y, `depth` half the extent in z (none: no
    /// cut in z).
    ///
    /// # Errors
    /// [`Error::NonFinite`] for `center` and `rotation`; [`Error::Range`] for a `box_size`,
    /// `half_width` or `depth` that is not finite and positive, and a `rotation` that is none.
    pub fn new(
        center: Vector,
        box_size: Option<f64>,
        rotation: Option<Matrix>,
        half_width: [f64; 2],
        depth: Option<f64>,
    ) -> Result<Self, Error> {
        let origin = Origin::new(center, box_size)?;
        let rotation = rotation.unwrap_or(IDENTITY);
        check_rotation(&rotation)?;
        let sensible = |half: f64| half > 0.0 && (2.0 * half).is_finite();
        if !half_width.into_iter().all(sensible) {
            return Err(Error::range(
                "half_width",
                &half_width,
                "finite numbers > 0, whose double is finite",
            ));
        }
        if let Some(depth) = depth
            && !sensible(depth)
        {
            return Err(Error::range(
                "depth",
                &depth,
                "None or a finite number > 0, whose double is finite",
            ));
        }
        Ok(Self {
            origin,
            rotation,
            half_width,
            depth,
        })
    }

    pub(crate) fn half_width(&self) -> [f64; 2] {
        self.half_width
    }

    /// Places in the picture of up to a batch of `points`, and which are in the frame.
    #[inline(always)]
    pub(crate) fn select<T: Real>(&self, points: &[[T; 3]], batch: &mut Batch) {
        let is_near = |d: &Vector| self.origin.is_near(d);
        let nearest = |d: Vector| self.origin.nearest(d);
        batch.bad = 0;
        if self.place(points, batch, nearest, is_near) < points.len() as u64 {
            // Rare: particles far outside the box, or not finite.
            self.place(points, batch, |d| self.origin.minimum_image(d), is_near);
            let is_bad = |point: &&[T; 3]| !point.iter().all(|v| v.is_finite());
            batch.bad = points.iter().filter(is_bad).count();
        }
    }

    /// Counts the first `n`, which have been selected, as inside where what they reach is: their
    /// centre is in the depth of the frame, and they are `widest` at most. Those of no size are bad.
    #[inline(always)]
    pub(crate) fn select_reaching(&self, n: usize, widest: f64, batch: &mut Batch) {
        let [hx, hy] = self.half_width;
        let hz = self.depth.unwrap_or(f64::INFINITY);
        let Batch {
            x,
            y,
            z,
            reach,
            inside,
            bad,
            ..
        } = batch;
        let mut sizeless = 0;
        for i in 0..n.min(BATCH) {
            let (x, y, z, reach) = (x[i], y[i], z[i], reach[i]);
            let is_sized = (0.0..f64::INFINITY).contains(&reach);
            let flat = (x + reach > -hx) & (x - reach < hx) & (y + reach > -hy) & (y - reach < hy);
            // A point on the low edge is in the frame.
            let point = (x >= -hx) & (x < hx) & (y >= -hy) & (y < hy);
            let deep = (z >= -hz) & (z < hz) & (reach <= widest);
            inside[i] = u64::from((flat | point) & deep & is_sized);
            sizeless += u64::from(!is_sized & (0.0 * (x + y + z) == 0.0));
        }
        *bad += sizeless as usize;
    }

    /// The same with offsets unwrapped in one way; how many offsets are `counted`.
    ///
    /// A place that is not finite is not inside.
    #[inline(always)]
    fn place<T: Real>(
        &self,
        points: &[[T; 3]],
        batch: &mut Batch,
        unwrap: impl Fn(Vector) -> Vector,
        counted: impl Fn(&Vector) -> bool,
    ) -> u64 {
        let [hx, hy] = self.half_width;
        let hz = self.depth.unwrap_or(f64::INFINITY);
        let places = batch.x.iter_mut().zip(&mut batch.y).zip(&mut batch.z);
        let mut count = 0;
        for ((((x, y), z), inside), point) in places.zip(&mut batch.inside).zip(points) {
            let d = self.origin.offset(point);
            count += u64::from(counted(&d));
            let d = unwrap(d);
            *x = dot(&self.rotation[0], &d);
            *y = dot(&self.rotation[1], &d);
            *z = dot(&self.rotation[2], &d);
            let flat = (*x >= -hx) & (*x < hx) & (*y >= -hy) & (*y < hy);
            *inside = u64::from(flat & (*z >= -hz) & (*z < hz));
        }
        count
    }
}

pub(crate) fn check_rotation(rotation: &Matrix) -> Result<(), Error> {
    for (index, row) in rotation.iter().enumerate() {
        if row.iter().any(|v| !v.is_finite()) {
            return Err(Error::NonFinite {
                name: "rotation",
                index,
            });
        }
    }
    let [a, b, c] = rotation;
    let lengths_and_angles = [
        dot(a, a) - 1.0,
        dot(b, b) - 1.0,
        dot(c, c) - 1.0,
        dot(a, b),
        dot(b, c),
        dot(c, a),
    ];
    // Of orthonormal rows the determinant is 1 or -1.
    let is_mirrored = dot(a, &cross(b, c)) < 0.0;
    if is_mirrored || lengths_and_angles.iter().any(|v| v.abs() > ORTHONORMAL) {
        return Err(Error::range(
            "rotation",
            rotation,
            "3 rows of length 1 at right angles, to 1e-6, with determinant +1",
        ));
    }
    Ok(())
}

pub(crate) fn cross(a: &Vector, b: &Vector) -> Vector {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

#[inline(always)]
pub(crate) fn dot(row: &Vector, d: &Vector) -> f64 {
    row[0] * d[0] + row[1] * d[1] + row[2] * d[2]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_shortcut_for_near_particles_changes_no_bit() {
        for size in [
            7.3,
            1.0,
            35_000.0,
            75_000.0,
            2.0_f64.next_down(),
            1e-310,
            1e300,
        ] {
            let origin = Origin::new([0.0; 3], Some(size)).unwrap();
            for part in [0.0, 1e-300, 0.3, 0.5, 0.9, 1.0, 1.25, 1.5, 2.5, 7.0] {
                let v: f64 = part * size;
                for v in [v, v.next_up(), v.next_down(), -v, -v.next_up()] {
                    assert_eq!(origin.image(&[v, 0.0, 0.0]), origin.wrap([v, 0.0, 0.0]));
                }
            }
        }
    }

    #[test]
    fn wrapping_is_the_textbook_formula() {
        let size = 7.3;
        let origin = Origin::new([0.1, -3.0, 1e5], Some(size)).unwrap();
        for k in 0..2000 {
            let v = f64::from(k) * 0.731 - 700.0;
            let p = [v, v * 1e6, v * 1e14];
            let expected = [p[0] - 0.1, p[1] + 3.0, p[2] - 1e5]
                .map(|d| d - size * (d / size).round_ties_even());
            assert_eq!(origin.image(&p), expected);
        }
    }

    #[test]
    fn frames_are_checked() {
        let make = |center: f64, size, half, depth| {
            Frame::new([center, 0.0, 0.0], size, None, [1.0, half], depth).err()
        };
        assert!(make(0.0, Some(1.0), 1.0, Some(1.0)).is_none());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                make(0.0, Some(bad), 1.0, None),
                Some(Error::Range {
                    name: "box_size",
                    ..
                })
            ));
            assert!(matches!(
                make(0.0, None, bad, None),
                Some(Error::Range {
                    name: "half_width",
                    ..
                })
            ));
            assert!(matches!(
                make(0.0, None, 1.0, Some(bad)),
                Some(Error::Range { name: "depth", .. })
            ));
        }
        assert!(matches!(
            make(f64::NAN, None, 1.0, None),
            Some(Error::NonFinite { name: "center", .. })
        ));
        let mut rotation = IDENTITY;
        rotation[1][2] = f64::INFINITY;
        assert_eq!(
            Frame::new([0.0; 3], None, Some(rotation), [1.0; 2], None).err(),
            Some(Error::NonFinite {
                name: "rotation",
                index: 1
            })
        );
    }
}
