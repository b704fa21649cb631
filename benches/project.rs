//! One pass from box coordinates to maps of three channels.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::hint::black_box;

use common::{BOX, CENTER, HALF, Random, TILT};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use sfr_core::{Channel, Frame, Quantity, Real, Thermal, Threads, Values, project};

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

/// Entropy, mass and log10 T, made of the first fields as the kernels do.
fn thermal(fields: &[Vec<f32>]) -> [Channel<'_>; 3] {
    let values = |k: usize| Values::F32(&fields[k]);
    let thermal = Thermal {
        energy: values(0),
        electrons: values(1),
        factor: 80.8,
        mu: [4.0, 3.28, 3.04],
    };
    let entropy = Quantity::Entropy {
        thermal,
        density: values(2),
        density_factor: 141.0,
        of_electrons: true,
        factor: 8.6e-8,
    };
    let log10_temperature = Channel {
        log10: true,
        ..Quantity::Temperature(thermal).into()
    };
    [
        entropy.into(),
        Channel::from(&fields[2][..]),
        log10_temperature,
    ]
}

fn check_thermal(points: &[[f32; 3]], fields: &[Vec<f32>]) {
    let got = project(
        points,
        &thermal(fields),
        &frame(),
        [1; 2],
        1.0,
        Threads::Shared,
    )
    .unwrap();
    let mut expected = [0.0; 3];
    for (i, point) in points.iter().enumerate() {
        let [x, y, _] = common::naive_turn(point);
        if common::naive_bin(x, y, 1).is_some() {
            let [u, x_e, rho] = [0, 1, 2].map(|k| f64::from(fields[k][i]));
            let t = 80.8 * u * 4.0 / (3.28 + 3.04 * x_e);
            expected[0] += 8.6e-8 * t / (141.0 * rho * x_e).cbrt().powi(2);
            expected[1] += rho;
            expected[2] += t.log10();
        }
    }
    for (got, expected) in got.maps.iter().zip(expected) {
        assert!((got - expected).abs() <= 1e-11 * expected.abs());
    }
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
    check_thermal(
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
                "f64-thermal",
                &halo,
                &thermal(&weights),
                256,
                serial,
            );
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
