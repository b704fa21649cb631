//! Inputs of the benches, from fixed seeds, and the naive loops they are checked against.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use criterion::Criterion;
use sfr_core::{Matrix, Threads, Vector};

/// More with `SFR_BENCH_LARGE=1`: 1e7 takes minutes.
pub fn sizes() -> Vec<usize> {
    let mut sizes = vec![10_000, 100_000, 1_000_000];
    if std::env::var_os("SFR_BENCH_LARGE").is_some() {
        sizes.push(10_000_000);
    }
    sizes
}

/// One thread and all of them.
pub fn threads() -> Vec<(&'static str, Threads)> {
    vec![("1", Threads::SERIAL), ("all", Threads::Shared)]
}

pub fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .nresamples(10_000)
}

pub const BOX: f64 = 35_000.0;
/// Near an edge, so that the halo lies on both sides of the box.
pub const CENTER: Vector = [17_000.0, 34_990.0, 12.0];
pub const HALF: f64 = 30.0;
/// A proper rotation: rows of length 1 at right angles.
pub const TILT: Matrix = [
    [2.0 / 3.0, -2.0 / 3.0, 1.0 / 3.0],
    [1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0],
    [-2.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0],
];

/// A small generator of good enough numbers (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// In [0, 1).
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn values(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.next()).collect()
    }

    /// Offsets of a halo about the centre: many near it, about two thirds in the frame.
    pub fn halo(&mut self, n: usize) -> Vec<[f64; 3]> {
        (0..n)
            .map(|_| {
                let radius = 80.0 * self.next().powi(2);
                let cos = 2.0 * self.next() - 1.0;
                let (sin_phi, cos_phi) = (std::f64::consts::TAU * self.next()).sin_cos();
                let sin = (1.0 - cos * cos).sqrt();
                let offset = [radius * sin * cos_phi, radius * sin * sin_phi, radius * cos];
                [0, 1, 2].map(|k| (CENTER[k] + offset[k]).rem_euclid(BOX))
            })
            .collect()
    }

    /// Positions all over the frame, nearly all in it: the hardest case for caches.
    pub fn sheet(&mut self, n: usize) -> Vec<[f64; 3]> {
        (0..n)
            .map(|_| {
                let flat = [0, 1, 2].map(|_| 2.0 * HALF * (self.next() - 0.5));
                [0, 1, 2].map(|k| {
                    let offset = TILT[0][k] * flat[0] + TILT[1][k] * flat[1] + TILT[2][k] * flat[2];
                    (CENTER[k] + offset).rem_euclid(BOX)
                })
            })
            .collect()
    }
}

pub fn single(points: &[[f64; 3]]) -> Vec<[f32; 3]> {
    points.iter().map(|p| p.map(|v| v as f32)).collect()
}

/// The frame's coordinates of a particle, written as plainly as can be.
pub fn naive_turn(point: &[f32; 3]) -> Vector {
    let mut d = [0.0; 3];
    for k in 0..3 {
        d[k] = f64::from(point[k]) - CENTER[k];
        d[k] -= BOX * (d[k] / BOX).round();
    }
    TILT.map(|row| row[0] * d[0] + row[1] * d[1] + row[2] * d[2])
}

pub fn naive_bin(x: f64, y: f64, npix: usize) -> Option<usize> {
    let inside = |v: f64| (-HALF..HALF).contains(&v);
    let index = |v: f64| ((v + HALF) / (2.0 * HALF) * npix as f64) as usize;
    (inside(x) && inside(y)).then(|| index(x) * npix + index(y))
}

pub fn assert_close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(1e-300_f64, |a, b| a.max(b.abs()));
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-12 * scale, "{a} is not {b}");
    }
}
