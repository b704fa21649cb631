//! Turning every particle into the frame.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{BOX, CENTER, Random, TILT};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sfr_core::{Threads, rotate};

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

criterion_group! {
    name = benches;
    config = common::settings();
    targets = bench
}
criterion_main!(benches);
