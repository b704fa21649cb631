//! Which particles are in the frame.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{BOX, CENTER, HALF, Random, TILT};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sfr_core::{Frame, Threads, cull_box};

fn check(points: &[[f32; 3]], frame: &Frame) {
    let expected: Vec<i64> = (0..)
        .zip(points)
        .filter(|(_, point)| {
            let inside = |v: f64| (-HALF..HALF).contains(&v);
            common::naive_turn(point).into_iter().all(inside)
        })
        .map(|(index, _)| index)
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(cull_box(points, frame, Threads::Shared).unwrap(), expected);
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("cull_box");
    let mut random = Random::new(3);
    let frame = Frame::new(CENTER, Some(BOX), Some(TILT), [HALF; 2], Some(HALF)).unwrap();
    check(&common::single(&random.halo(20_000)), &frame);
    for n in common::sizes() {
        let points = common::single(&random.halo(n));
        group.throughput(Throughput::Elements(n as u64));
        for (name, threads) in common::threads() {
            let id = format!("N={:.0e}/threads={name}", n as f64);
            group.bench_function(BenchmarkId::new("f32", id), |b| {
                b.iter(|| cull_box(black_box(&points), &frame, threads));
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
