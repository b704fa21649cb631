//! What holds for any particles.
#![allow(missing_docs, clippy::unwrap_used)]

use proptest::prelude::*;
use sfr_core::{
    BLOCK, Channel, Frame, Matrix, Projection, Threads, cull_box, disk_normal, face_on_rotation,
    project, rotate,
};

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => -3.0..3.0_f64,
        2 => (-6..=6).prop_map(|k| f64::from(k) * 0.5),
        1 => prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(1e300),
            Just(-1e300),
            Just(-0.0),
            Just(5e-324)
        ],
    ]
}

fn points(most: usize) -> impl Strategy<Value = Vec<[f64; 3]>> {
    prop::collection::vec([number(), number(), number()], 0..most)
}

fn rotation() -> impl Strategy<Value = Matrix> {
    [-1.0..1.0_f64, -1.0..1.0_f64, 0.1..1.0_f64]
        .prop_map(|normal| face_on_rotation(normal).unwrap())
}

fn frame() -> impl Strategy<Value = Frame> {
    (
        prop::option::of(1.0..5.0_f64),
        prop::option::of(rotation()),
        [0.1..3.0_f64, 0.1..3.0_f64],
        prop::option::of(0.1..3.0_f64),
    )
        .prop_map(|(box_size, rotation, half, depth)| {
            Frame::new([0.5, -0.25, 0.0], box_size, rotation, half, depth).unwrap()
        })
}

fn ones(n: usize) -> Vec<f64> {
    vec![1.0; n]
}

fn picture(points: &[[f64; 3]], weights: &[f64], frame: &Frame) -> Projection {
    let channels = [Channel::from(weights)];
    project(points, &channels, frame, [5, 3], 1.0, Threads::SERIAL).unwrap()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn project_sees_what_cull_box_finds(points in points(60), frame in frame()) {
        let found = cull_box(&points, &frame, Threads::SERIAL).unwrap();
        let picture = picture(&points, &ones(points.len()), &frame);
        prop_assert_eq!(picture.ledger.in_frame, found.len());
        prop_assert_eq!(picture.maps.iter().sum::<f64>(), found.len() as f64);
        prop_assert!(found.is_sorted());
    }

    #[test]
    fn whole_numbers_are_counted_exactly(
        points in points(60), frame in frame(), weights in prop::collection::vec(-100..100_i32, 60)
    ) {
        let weights: Vec<f64> = weights.into_iter().take(points.len()).map(f64::from).collect();
        let picture = picture(&points, &weights, &frame);
        prop_assert_eq!(&picture.ledger.sum_in_frame[..], &[picture.maps.iter().sum::<f64>()]);
        let all = picture.ledger.sum_in_frame[0] + picture.ledger.sum_out_of_frame[0];
        prop_assert_eq!(all, weights.iter().sum::<f64>());
    }

    #[test]
    fn what_was_read_is_in_the_frame_out_of_it_or_bad(points in points(60), frame in frame()) {
        let ledger = picture(&points, &ones(points.len()), &frame).ledger;
        let bad = points.iter().filter(|p| p.iter().any(|v| !v.is_finite())).count();
        prop_assert_eq!(ledger.bad_coordinates, bad);
        prop_assert_eq!(ledger.in_frame + ledger.out_of_frame + bad, points.len());
        prop_assert_eq!(&ledger.sum_out_of_frame[..], &[(points.len() - ledger.in_frame) as f64]);
    }

    #[test]
    fn pictures_add(points in points(60), at in 0..60_usize, frame in frame()) {
        let at = at.min(points.len());
        let all = picture(&points, &ones(points.len()), &frame);
        let one = picture(&points[..at], &ones(at), &frame);
        let two = picture(&points[at..], &ones(points.len() - at), &frame);
        let sum: Vec<f64> = one.maps.iter().zip(&two.maps).map(|(a, b)| a + b).collect();
        prop_assert_eq!(all.maps, sum);
    }

    #[test]
    fn order_does_not_matter_for_counts(points in points(60), frame in frame()) {
        let mut reversed = points.clone();
        reversed.reverse();
        let weights = ones(points.len());
        prop_assert_eq!(
            picture(&points, &weights, &frame).maps,
            picture(&reversed, &weights, &frame).maps
        );
    }

    #[test]
    fn a_move_by_one_pixel_moves_the_picture(places in prop::collection::vec((0..7_u8, 0..8_u8), 0..40)) {
        let frame = Frame::new([4.0, 4.0, 0.0], None, None, [4.0; 2], None).unwrap();
        let shot = |dx: f64| {
            let place = |p: &(u8, u8)| [f64::from(p.0) + 0.5 + dx, f64::from(p.1), 0.0];
            let points: Vec<_> = places.iter().map(place).collect();
            let ones = ones(points.len());
            project(&points, &[Channel::from(&ones[..])], &frame, [8; 2], 1.0, Threads::SERIAL)
                .unwrap()
                .maps
        };
        prop_assert_eq!(&shot(0.0)[..56], &shot(1.0)[8..]);
    }

    #[test]
    fn bins_agree_with_a_plain_loop(
        points in points(40),
        bins in [1..9_usize, 1..9_usize],
        scale in prop_oneof![Just(1.0), Just(0.99), 0.01..1.0_f64],
    ) {
        let half = [2.0, 1.5];
        let frame = Frame::new([0.0; 3], None, None, half, None).unwrap();
        let ones = ones(points.len());
        let channels = [Channel::from(&ones[..])];
        let got = project(&points, &channels, &frame, bins, scale, Threads::SERIAL).unwrap().maps;
        let mut expected = vec![0.0; bins[0] * bins[1]];
        for point in points {
            let index = |axis: usize| {
                let (v, half) = (point[axis], half[axis]);
                (-half..half).contains(&v).then(|| {
                    let place = (v + half) / (2.0 * half) * scale;
                    ((place * bins[axis] as f64).floor() as usize).min(bins[axis] - 1)
                })
            };
            if let (Some(i), Some(j), true) = (index(0), index(1), point[2].is_finite()) {
                expected[i * bins[1] + j] += 1.0;
            }
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn turning_keeps_lengths(points in points(40), rotation in rotation()) {
        let turned = rotate(&points, &rotation, None, None, Threads::SERIAL).unwrap();
        for (q, p) in turned.as_chunks::<3>().0.iter().zip(&points) {
            let length = |v: &[f64; 3]| v[0].hypot(v[1]).hypot(v[2]);
            if p.iter().all(|v| v.is_finite()) {
                prop_assert!((length(q) - length(p)).abs() <= 1e-14 * length(p));
            }
        }
    }

    #[test]
    fn a_disk_turned_face_on_has_its_normal_along_z(
        points in prop::collection::vec([-1.0..1.0_f64, -1.0..1.0, -1.0..1.0], 2..30),
        speeds in prop::collection::vec([-1.0..1.0_f64, -1.0..1.0, -1.0..1.0], 30),
    ) {
        let speeds = &speeds[..points.len()];
        let masses = ones(points.len());
        let normal = |points: &[[f64; 3]], speeds: &[[f64; 3]]| {
            disk_normal(points, speeds, &masses, [0.0; 3], [0.0; 3], None, Threads::SERIAL)
        };
        let r = face_on_rotation(normal(&points, speeds).unwrap()).unwrap();
        let turn = |v: &[[f64; 3]]| {
            let flat = rotate(v, &r, None, None, Threads::SERIAL).unwrap();
            flat.as_chunks::<3>().0.to_vec()
        };
        let n = normal(&turn(&points), &turn(speeds)).unwrap();
        prop_assert!((n[2] - 1.0).abs() < 1e-9, "{n:?}");
    }
}

/// Numbers of any size from a seed, some of them bad.
fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let value = (state >> 11) as f64 / (1_u64 << 53) as f64;
            if state >> 48 == 7 { f64::NAN } else { value }
        })
        .collect()
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    let counts = [Some(2), Some(3), Some(7), None].map(|n| Threads::new(n).unwrap());
    for n in [BLOCK - 1, BLOCK + 1, 5 * BLOCK + 4321] {
        let flat = noise(1, 3 * n);
        let points = flat.as_chunks::<3>().0;
        let weights = noise(2, n);
        let narrow: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
        let channels = [Channel::from(&weights[..]), Channel::from(&narrow[..])];
        let tilt = face_on_rotation([0.3, -0.2, -0.9]).unwrap();
        let frame = Frame::new([0.5; 3], Some(0.9), Some(tilt), [0.4, 0.3], Some(0.4)).unwrap();
        let shot = |threads| {
            let p = project(points, &channels, &frame, [37, 41], 0.99, threads).unwrap();
            (
                bits(&p.maps),
                p.ledger.clone(),
                bits(&p.ledger.sum_in_frame),
            )
        };
        let found = |threads| cull_box(points, &frame, threads).unwrap();
        let turned =
            |threads| bits(&rotate(points, &tilt, Some([0.5; 3]), Some(0.9), threads).unwrap());
        let clean: Vec<f64> = flat
            .iter()
            .map(|v| if v.is_nan() { 0.5 } else { *v })
            .collect();
        let clean = clean.as_chunks::<3>().0;
        let mut moving = clean.to_vec();
        moving.rotate_left(1);
        let normal = |threads| {
            let ones = ones(n);
            bits(&disk_normal(clean, &moving, &ones, [0.4; 3], [0.1; 3], None, threads).unwrap())
        };
        for threads in counts {
            assert!(shot(threads) == shot(Threads::SERIAL));
            assert!(found(threads) == found(Threads::SERIAL));
            assert!(turned(threads) == turned(Threads::SERIAL));
            assert!(normal(threads) == normal(Threads::SERIAL));
        }
    }
}
