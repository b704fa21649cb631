//! Sums per pixel of particles whose place in the picture is known.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{HALF, Random};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sfr_core::{Channel, Grid, Threads, bin_2d};

fn grid(npix: usize) -> Grid {
    Grid::new([[-HALF, HALF]; 2], [npix; 2], 1.0).unwrap()
}

fn places(random: &mut Random, n: usize) -> Vec<f64> {
    (0..n).map(|_| 70.0 * (random.next() - 0.5)).collect()
}

fn check(x: &[f64], y: &[f64], weights: &[f64]) {
    let npix = 64;
    let channels = [Channel::from(weights)];
    let got = bin_2d(x, y, &channels, &grid(npix), Threads::Shared).unwrap();
    let mut expected = vec![0.0; npix * npix];
    for ((&x, &y), weight) in x.iter().zip(y).zip(weights) {
        if let Some(pixel) = common::naive_bin(x, y, npix) {
            expected[pixel] += weight;
        }
    }
    common::assert_close(&got, &expected);
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("bin_2d");
    let mut random = Random::new(2);
    let mut make = |n| {
        (
            places(&mut random, n),
            places(&mut random, n),
            random.values(n),
        )
    };
    let (x, y, weights) = make(20_000);
    check(&x, &y, &weights);
    for n in common::sizes() {
        let (x, y, weights) = make(n);
        let channels = [Channel::from(&weights[..])];
        let grid = grid(256);
        group.throughput(Throughput::Elements(n as u64));
        for (name, threads) in common::threads() {
            let id = format!("N={:.0e}/npix=256/threads={name}", n as f64);
            group.bench_function(BenchmarkId::new("f64", id), |b| {
                b.iter(|| bin_2d(black_box(&x), black_box(&y), &channels, &grid, threads));
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
