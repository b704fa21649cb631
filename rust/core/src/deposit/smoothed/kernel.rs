//! The cubic spline seen from one side, and the splines that large cells are written in.

/// Share of a cell that lies below `t`, a distance from its centre in units of its support.
///
/// The cubic spline M4 (Monaghan & Lattanzio 1985) of support 1, integrated over both other axes:
/// `W(q) = 8/pi [2 (1-q)^3 - (1-2q)^3]`, each bracket where it is positive.
#[inline(always)]
pub(crate) fn below(t: f64) -> f64 {
    let s = t.abs();
    let a = (1.0 - s).max(0.0);
    let u = (0.5 - s).max(0.0);
    let (a2, u2) = (a * a, u * u);
    let tail = a2 * a2 * a * (1.6 - 16.0 / 15.0 * a) - u2 * u2 * u * (3.2 - 64.0 / 15.0 * u);
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The marginal itself, the derivative of [`below`].
pub(crate) fn marginal(t: f64) -> f64 {
    let s = t.abs();
    let (a, u) = ((1.0 - s).max(0.0), (0.5 - s).max(0.0));
    a.powi(4) * (8.0 - 6.4 * a) - u.powi(4) * (16.0 - 25.6 * u)
}

/// The cubic B-spline on whole knots.
pub(crate) fn spline(t: f64) -> f64 {
    let (a, u) = ((2.0 - t.abs()).max(0.0), (1.0 - t.abs()).max(0.0));
    (a.powi(3) - 4.0 * u.powi(3)) / 6.0
}

/// Share of the cubic B-spline that lies below `t`.
pub(crate) fn spline_below(t: f64) -> f64 {
    let (a, u) = ((2.0 - t.abs()).max(0.0), (1.0 - t.abs()).max(0.0));
    let tail = (a.powi(4) - 4.0 * u.powi(4)) / 24.0;
    if t > 0.0 { 1.0 - tail } else { tail }
}
