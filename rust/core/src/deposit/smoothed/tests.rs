#![allow(clippy::unwrap_used)]

use super::kernel::{below, marginal, spline, spline_below};
use super::taps::{FITTED, LEAST};
use crate::{BLOCK, Channel, Frame, Level, Projector, Threads, Way};

fn number(k: usize) -> f64 {
    (k as f64 * 0.618_033_988_749).fract()
}

#[test]
fn shares_are_the_integrals_of_profiles() {
    let step = 1e-4;
    for (share, profile, far) in [
        (below as fn(f64) -> f64, marginal as fn(f64) -> f64, 1.0),
        (spline_below, spline, 2.0),
    ] {
        let mut sum = 0.0;
        let mut t = -far;
        while t < far {
            sum += step * profile(t + 0.5 * step);
            t += step;
            assert!((share(t) - sum).abs() < 1e-7, "{t}");
        }
        assert_eq!([share(-far), share(far)], [0.0, 1.0]);
        assert!((share(0.0) - 0.5).abs() < 1e-15);
    }
}

#[test]
fn taps_add_up_to_one_and_make_the_profile() {
    for ratio in [1.0, 1.2, 1.5, 1.8, 2.0_f64.next_down()] {
        let support = (LEAST * ratio).sqrt();
        for offset in [-0.5, -0.3, 0.0, 0.1, 0.5] {
            let [taps, same] = FITTED.at(ratio, [offset; 2]);
            assert_eq!(taps, same);
            assert!((taps.iter().sum::<f64>() - 1.0).abs() < 1e-15);
            assert!(taps.iter().all(|tap| *tap >= 0.0));
            for k in -60..=60 {
                let t = f64::from(k) * 0.1;
                let made: f64 = (0..5)
                    .map(|knot| taps[knot] * spline(t - (knot as f64 - 2.0)))
                    .sum();
                let wanted = marginal((t - offset) / support) / support;
                assert!((made - wanted).abs() < 0.04 * marginal(0.0) / support);
            }
        }
    }
}

#[test]
fn every_level_gives_the_same_bits_for_cells_with_a_size() {
    let n = BLOCK + 777;
    let points: Vec<[f32; 3]> = (0..n)
        .map(|k| [1, 7, 13].map(|step| (60.0 * (number(k * step) - 0.5)) as f32))
        .collect();
    let volumes: Vec<f64> = (0..n)
        .map(|k| 10_f64.powf(6.0 * number(k * 3) - 4.0))
        .collect();
    let masses: Vec<f64> = (0..n).map(|k| number(k * 5)).collect();
    let frame = Frame::new([0.1; 3], Some(80.0), None, [20.0; 2], None).unwrap();
    for columns in [1, 3, 5, 7] {
        let channels = vec![Channel::from(&masses[..]); columns];
        let shots: Vec<_> = Level::available()
            .into_iter()
            .map(|level| {
                let projector =
                    Projector::new(Way::Smoothed, &[frame], [48; 2], 1.0, columns, false).unwrap();
                let mut projector = projector.with_level(level);
                let volumes = Channel::from(&volumes[..]);
                projector
                    .add(&points, Some(&volumes), &channels, Threads::SERIAL)
                    .unwrap();
                projector.finish().unwrap().swap_remove(0)
            })
            .collect();
        assert!(shots.iter().all(|shot| *shot == shots[0]));
        // Columns alike are the same sums.
        let pixels = shots[0].maps.len() / columns;
        let (first, others) = shots[0].maps.split_at(pixels);
        assert!(others.chunks(pixels).all(|map| map == first));
    }
}
