//! Turning every particle into the frame.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{BOX, CENTER, Random, TILT};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sfr_core::{Threads, face_on_rotation, rotate};

fn check(points: &[[f32; 3]]) {
    let got = rotate(points, &TILT, Some(CENTER), Some(BOX), Threads::Shared).unwrap();
    let expected: Vec<f64> = points.iter().flat_map(common::naive_turn).collect();
    common::assert_close(&got, &expected);
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("rotate");
    let mut random = Random::new(4);
    check(&common::single(&random.halo(20_000)));
    for n in common::sizes() {
        let points = common::single(&random.halo(n));
        group.throughput(Throughput::Elements(n as u64));
        for (name, threads) in common::threads() {
            let id = format!("N={:.0e}/threads={name}", n as f64);
            group.bench_function(BenchmarkId::new("f32", id), |b| {
                b.iter(|| rotate(black_box(&points), &TILT, Some(CENTER), Some(BOX), threads));
            });
        }
    }
    group.finish();
}

/// The normal itself, taken to +z by rows times columns.
fn check_face_on(normals: &[[f64; 3]]) {
    for n in normals {
        let rotation = face_on_rotation(*n).unwrap();
        let length = n.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (row, expected) in rotation.iter().zip([0.0, 0.0, length]) {
            let got: f64 = row.iter().zip(n).map(|(r, x)| r * x).sum();
            assert!(
                (got - expected).abs() < 1e-12 * length,
                "{got} is not {expected}"
            );
        }
    }
}

fn bench_face_on(c: &mut Criterion) {
    let mut group = c.benchmark_group("face_on_rotation");
    let normals = Random::new(5).halo(1000);
    check_face_on(&normals);
    group.throughput(Throughput::Elements(normals.len() as u64));
    group.bench_function("N=1e3", |b| {
        b.iter(|| {
            for normal in &normals {
                let _ = black_box(face_on_rotation(black_box(*normal)));
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::settings();
    targets = bench, bench_face_on
}
criterion_main!(benches);
