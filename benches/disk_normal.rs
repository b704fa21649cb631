//! The direction of the angular momentum.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{BOX, CENTER, Random};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sfr_core::{Threads, Vector, disk_normal};

const BULK: Vector = [100.0, -200.0, 50.0];

fn normal(points: &[[f32; 3]], speeds: &[[f32; 3]], masses: &[f32], threads: Threads) -> Vector {
    disk_normal(points, speeds, masses, CENTER, BULK, Some(BOX), threads).unwrap()
}

fn check(points: &[[f32; 3]], speeds: &[[f32; 3]], masses: &[f32]) {
    let mut sum = [0.0; 3];
    for ((point, speed), &mass) in points.iter().zip(speeds).zip(masses) {
        let mut d = [0.0; 3];
        let mut v = [0.0; 3];
        for k in 0..3 {
            d[k] = f64::from(point[k]) - CENTER[k];
            d[k] -= BOX * (d[k] / BOX).round();
            v[k] = f64::from(speed[k]) - BULK[k];
        }
        for (k, total) in sum.iter_mut().enumerate() {
            let (i, j) = ((k + 1) % 3, (k + 2) % 3);
            *total += f64::from(mass) * (d[i] * v[j] - d[j] * v[i]);
        }
    }
    let length = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
    let expected = sum.map(|v| v / length);
    common::assert_close(&normal(points, speeds, masses, Threads::Shared), &expected);
}

fn make(random: &mut Random, n: usize) -> (Vec<[f32; 3]>, Vec<[f32; 3]>, Vec<f32>) {
    let points = random.halo(n);
    // A disk that turns about its own z, with some disorder.
    let speeds = points.iter().map(|p| {
        let [x, y] = [p[0] - CENTER[0], p[1] - CENTER[1]];
        [-y, x, 0.0].map(|v| (v + random.next()) as f32)
    });
    let speeds = speeds.collect();
    let masses = random.values(n).iter().map(|&m| m as f32).collect();
    (common::single(&points), speeds, masses)
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("disk_normal");
    let mut random = Random::new(5);
    let (points, speeds, masses) = make(&mut random, 20_000);
    check(&points, &speeds, &masses);
    for n in common::sizes() {
        let (points, speeds, masses) = make(&mut random, n);
        group.throughput(Throughput::Elements(n as u64));
        for (name, threads) in common::threads() {
            let id = format!("N={:.0e}/threads={name}", n as f64);
            group.bench_function(BenchmarkId::new("f32", id), |b| {
                b.iter(|| normal(black_box(&points), &speeds, &masses, threads));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::settings();
    targets = bench
}
criterion_main!(benches);
