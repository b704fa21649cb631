//! One pass from box coordinates to maps of three channels.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{BOX, CENTER, HALF, Random, TILT};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use sfr_core::{Channel, Frame, Real, Threads, project};

fn frame() -> Frame {
    Frame::new(CENTER, Some(BOX), Some(TILT), [HALF; 2], None).unwrap()
}

fn check(points: &[[f32; 3]], weights: &[Vec<f32>]) {
    let npix = 64;
    let channels: Vec<_> = weights.iter().map(|w| Channel::from(&w[..])).collect();
    let got = project(points, &channels, &frame(), [npix; 2], 1.0, Threads::Shared).unwrap();
    let mut expected = vec![0.0; weights.len() * npix * npix];
    for (i, point) in points.iter().enumerate() {
        let [x, y, _] = common::naive_turn(point);
        if let Some(pixel) = common::naive_bin(x, y, npix) {
            for (c, w) in weights.iter().enumerate() {
                expected[c * npix * npix + pixel] += f64::from(w[i]);
            }
        }
    }
    common::assert_close(&got.maps, &expected);
}

fn one<T: Real>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    variant: &str,
    points: &[[T; 3]],
    channels: &[Channel<'_>],
    npix: usize,
    (name, threads): (&str, Threads),
) {
    let id = format!("N={:.0e}/npix={npix}/threads={name}", points.len() as f64);
    let frame = frame();
    group.throughput(Throughput::Elements(points.len() as u64));
    group.bench_function(BenchmarkId::new(variant, id), |b| {
        b.iter(|| project(black_box(points), channels, &frame, [npix; 2], 1.0, threads));
    });
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("project");
    let mut random = Random::new(1);
    let make = |random: &mut Random, n| -> Vec<Vec<f32>> {
        (0..3)
            .map(|_| random.values(n).iter().map(|&v| v as f32).collect())
            .collect()
    };
    check(
        &common::single(&random.halo(20_000)),
        &make(&mut random, 20_000),
    );
    for n in common::sizes() {
        let halo = random.halo(n);
        let weights = make(&mut random, n);
        let channels: Vec<_> = weights.iter().map(|w| Channel::from(&w[..])).collect();
        let narrow = common::single(&halo);
        for threads in common::threads() {
            one(&mut group, "f32", &narrow, &channels, 256, threads);
        }
        if n == 1_000_000 {
            let sheet = common::single(&random.sheet(n));
            let serial = ("1", Threads::SERIAL);
            one(&mut group, "f64", &halo, &channels, 256, serial);
            one(
                &mut group,
                "f32-one-channel",
                &narrow,
                &channels[..1],
                256,
                serial,
            );
            one(&mut group, "f32-sheet", &sheet, &channels, 256, serial);
            one(&mut group, "f32", &narrow, &channels, 1024, serial);
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
