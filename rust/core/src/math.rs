//! Functions of whole slices that compilers turn into vector instructions.
//!
//! Branch-free for positive normal numbers; everything else is mended one by one afterwards. Within
//! 2 ulp of the exact value; the same bits on every [`Level`](crate::Level).

/// `x^(-2/3)` of the absolute value of each number.
#[inline(always)]
pub(crate) fn inverse_cbrt_squared(values: &mut [f64]) {
    let mut odd = 0_u64;
    for value in values.iter() {
        odd += u64::from(!is_plain(value.abs()));
    }
    if odd > 0 {
        for value in values.iter_mut() {
            *value = if is_plain(value.abs()) {
                plain_inverse_cbrt_squared(*value)
            } else {
                let root = value.cbrt();
                1.0 / (root * root)
            };
        }
        return;
    }
    for value in values.iter_mut() {
        *value = plain_inverse_cbrt_squared(*value);
    }
}

/// `log10` of each number.
#[inline(always)]
pub(crate) fn log10(values: &mut [f64]) {
    let mut odd = 0_u64;
    for value in values.iter() {
        odd += u64::from(!is_plain(*value));
    }
    if odd > 0 {
        for value in values.iter_mut() {
            *value = if is_plain(*value) {
                plain_log10(*value)
            } else {
                value.log10()
            };
        }
        return;
    }
    for value in values.iter_mut() {
        *value = plain_log10(*value);
    }
}

/// Positive, normal and finite.
#[inline(always)]
fn is_plain(value: f64) -> bool {
    (f64::MIN_POSITIVE..=f64::MAX).contains(&value)
}

#[inline(always)]
fn plain_inverse_cbrt_squared(value: f64) -> f64 {
    let x = value.abs();
    // A third of the exponent, negated: within 3.5 per cent.
    let third = ((x.to_bits() >> 32) * 0xaaaa_aaab) >> 33;
    let mut y = f64::from_bits((0x553e_e980 - third) << 32);
    // y (1 - h)^(-1/3) with h = 1 - x y^3, to fourth order: 3.5e-2, 2e-5, rounding.
    for _ in 0..2 {
        let h = 1.0 - x * y * (y * y);
        y += y * (h * (1.0 / 3.0 + h * (2.0 / 9.0 + h * (14.0 / 81.0))));
    }
    y * y
}

/// 2^52, from which on doubles are whole numbers.
const WHOLE: u64 = 0x4330_0000_0000_0000;
/// Bits of sqrt(1/2), where the mantissa's range begins.
const HALF_ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
/// log10(2) in two parts; a product of the first with a whole number up to 2^11 is exact.
const LOG10_2_HIGH: f64 = 0.301_029_995_663_611_77;
const LOG10_2_LOW: f64 = 3.694_239_077_158_931e-13;
/// Chebyshev fit of `(2 atanh(s) / s - 2) / s^2` in `s^2`, up to s = 0.172.
const RATIO: [f64; 7] = [
    0.666_666_666_666_667,
    0.399_999_999_998_995_04,
    0.285_714_286_259_754_85,
    0.222_222_111_347_950_8,
    0.181_828_891_252_617_22,
    0.153_317_216_005_560_41,
    0.146_164_496_850_434_06,
];

#[inline(always)]
fn plain_log10(x: f64) -> f64 {
    // x = 2^k m with m in [sqrt(1/2), sqrt(2)).
    let shifted = x.to_bits().wrapping_sub(HALF_ROOT).wrapping_add(1023 << 52);
    let k = f64::from_bits((shifted >> 52) | WHOLE) - (4_503_599_627_370_496.0 + 1023.0);
    let m = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(HALF_ROOT));
    // ln m = 2 atanh(s) with s = f / (2 + f), |s| < 0.172; 2 atanh(s) / s - 2 is z times a
    // polynomial fitted to 3e-16.
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = RATIO[0] + w * (RATIO[2] + w * (RATIO[4] + w * RATIO[6]));
    let odd = w * (RATIO[1] + w * (RATIO[3] + w * RATIO[5]));
    let half = 0.5 * f * f;
    let ln = f - (half - s * (half + (z * even + odd)));
    k * LOG10_2_HIGH + (k * LOG10_2_LOW + ln * std::f64::consts::LOG10_E)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Vec<f64> {
        let mut state = 1_u64;
        let mut values: Vec<f64> = (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                // Any mantissa and any exponent of a normal number.
                let exponent = 1 + (state >> 20) % 2046;
                f64::from_bits((exponent << 52) | (state >> 12))
            })
            .filter(|v| v.is_normal())
            .collect();
        for near in [
            1.0,
            std::f64::consts::FRAC_1_SQRT_2,
            10.0,
            1000.0,
            f64::MIN_POSITIVE,
        ] {
            values.extend([
                near,
                near.next_up(),
                near.next_down().max(f64::MIN_POSITIVE),
            ]);
        }
        values.push(f64::MAX);
        values
    }

    fn of(function: impl Fn(&mut [f64]), value: f64) -> f64 {
        let mut values = [value];
        function(&mut values);
        values[0]
    }

    #[test]
    fn log10_is_within_two_ulp() {
        let values = numbers();
        let mut found = values.clone();
        log10(&mut found);
        for (&x, got) in values.iter().zip(found) {
            let expected = x.log10();
            assert!(
                (got - expected).abs() <= 4.5e-16 * expected.abs(),
                "{x:e} {got} {expected}"
            );
        }
        assert_eq!(of(log10, 1.0), 0.0);
        assert_eq!(of(log10, 1000.0), 3.0);
    }

    #[test]
    fn the_inverse_root_is_within_a_few_ulp() {
        let values = numbers();
        let mut found = values.clone();
        inverse_cbrt_squared(&mut found);
        for (&x, got) in values.iter().zip(found) {
            let root = x.cbrt();
            let expected = 1.0 / (root * root);
            assert!(
                (got - expected).abs() <= 1.2e-15 * expected,
                "{x:e} {got} {expected}"
            );
        }
        assert_eq!(
            of(inverse_cbrt_squared, -8.0),
            of(inverse_cbrt_squared, 8.0)
        );
    }

    #[test]
    fn numbers_that_are_not_plain_get_what_the_library_says() {
        let values = [
            0.0,
            -0.0,
            5e-324,
            -1.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            2.0,
        ];
        let (mut logs, mut roots) = (values, values);
        log10(&mut logs);
        inverse_cbrt_squared(&mut roots);
        for ((x, log), root) in values.into_iter().zip(logs).zip(roots) {
            if x != 2.0 {
                let third = x.cbrt();
                assert_eq!(log.to_bits(), x.log10().to_bits());
                assert_eq!((1.0 / (third * third)).is_nan(), root.is_nan());
                assert!(root.is_nan() || root == 1.0 / (third * third) || x == -1.0);
            }
        }
    }
}
