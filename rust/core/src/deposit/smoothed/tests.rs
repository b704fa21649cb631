#![allow(clippy::unwrap_used)]
use super::*;

fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    ((*state >> 33) ^ (*state >> 11) & 0xffff) as f64 / (1_u64 << 31) as f64 % 1.0
}

#[test]
fn what_a_cell_holds_is_conserved() {
    let plan = Smoothed::new([256, 256], 1);
    let mut state = 1;
    for size in [1e-3, 1e-2, 0.1, 0.4, 0.79, 1.0, 1.19, 1.2, 1.21, 1.7, 2.5, 4.0, 10.0, 33.0, 48.0] {
        let s: f64 = 2.5 * size;
        for k in 0..50 {
            let mut place = || s + (256.0 - 2.0 * s) * if k < 20 { random(&mut state) } else { random(&mut state).round() };
            let (x, y) = ([place()], [place()]);
            let mut left = plan.empty().unwrap();
            plan.spread(&mut left, &Cells { x: &x, y: &y, support2: &[s * s * (1.0 - 1e-15)] }, &[&[1.0]]);
            let image = plan.develop(left).unwrap();
            let sum: f64 = image.iter().sum();
            assert!((sum - 1.0).abs() < 1e-13, "{size} {x:?} {y:?} {sum}");
            assert!(image.iter().all(|v| *v >= 0.0));
        }
    }
}
