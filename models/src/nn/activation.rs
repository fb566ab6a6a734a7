//! Activations, element by element.
//!
//! On a CPU in f32 they run in one pass over an exponential that compilers vectorise; the standard library's `tanh`
//! and `exp`, one value at a time, would take as long as a small model's matrix products.

use candle_core::Tensor;

use super::rows::{ON_ONE_THREAD, is_plain, largest_of, map_rows, sum_of, with_values};
use crate::error::Result;

/// GELU in its tanh form.
///
/// # Shapes
/// Any, to the same.
///
/// # Errors
/// A tensor operation fails.
///
/// # Source
/// `GELU(approximate="tanh")` of PyTorch, as `stdit3.py` and T5 v1.1 (`gelu_new`) use it.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if is_plain(x) { map_values(x, gelu_value) } else { Ok(x.gelu()?) }
}

/// `gelu(gate) * x`.
///
/// # Shapes
/// Both of one shape, to the same.
///
/// # Errors
/// The shapes differ, or a tensor operation fails.
pub fn gelu_gated(gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    if !is_plain(gate) || !is_plain(x) || gate.dims() != x.dims() {
        return Ok((gelu(gate)? * x)?);
    }
    let length = x.dim(candle_core::D::Minus1)?;
    with_values(x, |x| {
        map_rows(gate, |index, row, result| {
            let values = row.iter().zip(&x[index * length..]);
            result.iter_mut().zip(values).for_each(|(y, (&gate, x))| *y = gelu_value(gate) * x);
        })
    })?
}

/// SiLU: `x * sigmoid(x)`.
///
/// # Shapes
/// Any, to the same.
///
/// # Errors
/// A tensor operation fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    if is_plain(x) { map_values(x, silu_value) } else { Ok(x.silu()?) }
}

/// The probabilities of each row's scores: `e^x` over its sum.
///
/// # Shapes
/// `[..., L]` to the same.
///
/// # Errors
/// A tensor operation fails.
pub fn softmax(scores: &Tensor) -> Result<Tensor> {
    if !is_plain(scores) || scores.elem_count() > ON_ONE_THREAD {
        return Ok(candle_nn::ops::softmax_last_dim(scores)?);
    }
    map_rows(scores, |_, row, result| {
        let largest = largest_of(row);
        result.iter_mut().zip(row).for_each(|(y, &x)| *y = exp(x - largest));
        let sum = sum_of(result, |x| x) as f32;
        result.iter_mut().for_each(|y| *y /= sum);
    })
}

fn map_values(x: &Tensor, function: impl Fn(f32) -> f32 + Send + Sync) -> Result<Tensor> {
    map_rows(x, |_, row, result| {
        result.iter_mut().zip(row).for_each(|(y, &x)| *y = function(x));
    })
}

#[inline(always)]
pub(super) fn silu_value(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `0.5 x (1 + tanh(u))` is `x sigmoid(2u)`.
#[inline(always)]
pub(super) fn gelu_value(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
    x / (1.0 + exp(-TWICE_SQRT_2_OVER_PI * (x + CUBIC * x * x * x)))
}

/// `e^x`; 0 below -87, infinite above 88.4; NaN stays NaN.
///
/// # Source
/// Range reduction and polynomial of `expf` of the Cephes library.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const EXPONENT_BIAS: u32 = 127;
    const MANTISSA_BITS: u32 = 23;
    const SMALLEST: f32 = -87.0;
    let vanishes = x < SMALLEST;
    // Above 88.4 the exponent becomes that of infinity.
    let x = x.clamp(SMALLEST, 89.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = x - power * LN_2_HIGH - power * LN_2_LOW;
    let mut series = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        series = series * rest + coefficient;
    }
    let mantissa = series * rest * rest + rest + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(EXPONENT_BIAS);
    if vanishes { 0.0 } else { mantissa * f32::from_bits(exponent << MANTISSA_BITS) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{DType, Device};

    use super::*;

    /// Every exponent and many mantissas, of both signs.
    fn values() -> Vec<f32> {
        let mut values: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.005).collect();
        values.extend((-120..120).map(|i| i as f32));
        values.extend([0.0, -0.0, 1e-30, -1e-30, 3e38, -3e38]);
        values
    }

    fn assert_near(found: &Tensor, expected: impl Fn(f64) -> f64) {
        for (x, y) in values().into_iter().zip(found.to_vec1::<f32>().unwrap()) {
            let wanted = expected(f64::from(x));
            let off = (f64::from(y) - wanted).abs();
            // Exponents reach 87, and f32 holds those to 87 times 6e-8.
            assert!(off <= 1e-5 * wanted.abs().max(1e-3), "at {x}: {y}, not {wanted}");
        }
    }

    #[test]
    fn activations_are_what_their_formulas_say() {
        let x = Tensor::new(values(), &Device::Cpu).unwrap();
        assert_near(&silu(&x).unwrap(), |x| if x < -80.0 { 0.0 } else { x / (1.0 + (-x).exp()) });
        let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        let gelu_of = |x: f64| x / (1.0 + (-2.0 * inner(x)).exp());
        assert_near(&gelu(&x).unwrap(), |x| if x < -10.0 { 0.0 } else { gelu_of(x) });
    }

    #[test]
    fn a_gate_multiplies_what_it_lets_through() {
        let x = Tensor::new(values(), &Device::Cpu).unwrap().narrow(0, 0, 8000).unwrap();
        let (gate, x) = (x.reshape((80, 100)).unwrap(), x.affine(0.5, 1.0).unwrap());
        let x = x.reshape((80, 100)).unwrap();
        let expected = (gelu(&gate).unwrap() * &x).unwrap();
        let off = (gelu_gated(&gate, &x).unwrap() - expected).unwrap().abs().unwrap();
        assert_eq!(off.max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        assert!(gelu_gated(&gate, &x.narrow(0, 0, 1).unwrap()).is_err());
    }

    #[test]
    fn exponentials_are_right_to_the_last_digits() {
        for step in -86_000..88_000 {
            let x = step as f32 * 1e-3;
            let (found, wanted) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - wanted).abs() < 3e-7 * wanted, "e^{x} is {wanted}, not {found}");
        }
        assert_eq!((exp(-88.0), exp(f32::NEG_INFINITY), exp(100.0)), (0.0, 0.0, f32::INFINITY));
    }

    #[test]
    fn a_value_that_is_no_number_stays_one() {
        let x = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap();
        for y in [gelu(&x).unwrap(), silu(&x).unwrap()] {
            let y = y.to_vec1::<f32>().unwrap();
            assert!(y[0].is_nan() && y[1].is_finite());
        }
    }

    #[test]
    fn probabilities_are_those_of_the_general_operation() {
        let hidden = f32::NEG_INFINITY;
        let scores = [[0.5f32, -3., 80., 79.], [1e4, hidden, 1e4, hidden], [0., 0., 0., -200.]];
        let scores = Tensor::new(&scores, &Device::Cpu).unwrap();
        let general = candle_nn::ops::softmax_last_dim(&scores).unwrap();
        let off = (softmax(&scores).unwrap() - general).unwrap().abs().unwrap();
        assert!(off.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);
        let exact = softmax(&scores).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(exact[1], [0.5, 0.0, 0.5, 0.0]);
    }

    #[test]
    fn strided_and_narrow_tensors_take_the_general_way() {
        let x = Tensor::new(values(), &Device::Cpu).unwrap().narrow(0, 0, 8000).unwrap();
        let grid = x.reshape((80, 100)).unwrap();
        let turned = gelu(&grid.t().unwrap()).unwrap().t().unwrap();
        let straight = gelu(&grid).unwrap();
        let off = (turned - straight).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-5);
        assert_eq!(silu(&grid.to_dtype(DType::BF16).unwrap()).unwrap().dtype(), DType::BF16);
    }
}
