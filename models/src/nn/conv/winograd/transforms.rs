//! The three transforms of Winograd's `F(4x4, 3x3)`.
//!
//! A tile of 4x4 outputs depends on 6x6 inputs. All three transforms do the same along both axes, so each is a transform of
//! six values (or three weights) done twice. They evaluate polynomials at 0, ±[`A`], ±[`B`] and infinity.
//!
//! # Source
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, for the algorithm; Barabasz et al.,
//! "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", arXiv 1803.10986, for
//! why not at 0, ±1, ±2.

/// Values of a transformed tile along one axis.
pub(super) const SIDE: usize = 6;

/// Outputs of a tile along one axis.
pub(super) const OUTPUTS: usize = 4;

/// Products of one tile and one pair of channels, in place of the 144 of its sixteen outputs.
pub(super) const PRODUCTS: usize = SIDE * SIDE;

/// Our choice of points, measured: exact in binary, and sums of 2304 products are off by 1.4e-6 of their spread, where the
/// direct way is off by 3e-7, and 1 and 2 in their place by 3.4e-6.
const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// Three weights become six.
#[inline(always)]
pub(super) fn weights<const N: usize>([x, y, z]: [[f32; N]; 3]) -> [[f32; N]; SIDE] {
    const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
    const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));
    let mut six = [[0.0; N]; SIDE];
    for lane in 0..N {
        let (x, y, z) = (x[lane], y[lane], z[lane]);
        let (even_a, odd_a) = (AT_A * (x + A2 * z), AT_A * A * y);
        let (even_b, odd_b) = (AT_B * (x + B2 * z), AT_B * B * y);
        let values =
            [x / (A2 * B2), even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, z];
        six.iter_mut().zip(values).for_each(|(to, value)| to[lane] = value);
    }
    six
}

/// Six lines of inputs become six lines.
#[inline(always)]
pub(super) fn inputs(from: [&[f32]; SIDE], to: [&mut [f32]; SIDE]) {
    let length = to[0].len();
    let [x0, x1, x2, x3, x4, x5] = from.map(|line| &line[..length]);
    let [y0, y1, y2, y3, y4, y5] = to.map(|line| &mut line[..length]);
    for i in 0..length {
        let (even_a, odd_a) = (x4[i] - B2 * x2[i], A * (x3[i] - B2 * x1[i]));
        let (even_b, odd_b) = (x4[i] - A2 * x2[i], B * (x3[i] - A2 * x1[i]));
        y0[i] = A2 * B2 * x0[i] - (A2 + B2) * x2[i] + x4[i];
        (y1[i], y2[i]) = (even_a + odd_a, even_a - odd_a);
        (y3[i], y4[i]) = (even_b + odd_b, even_b - odd_b);
        y5[i] = A2 * B2 * x1[i] - (A2 + B2) * x3[i] + x5[i];
    }
}

/// Six sums become four outputs.
#[inline(always)]
pub(super) fn sums([x0, x1, x2, x3, x4, x5]: [f32; SIDE]) -> [f32; OUTPUTS] {
    let (even_a, odd_a) = (x1 + x2, x1 - x2);
    let (even_b, odd_b) = (x3 + x4, x3 - x4);
    [
        x0 + even_a + even_b,
        A * odd_a + B * odd_b,
        A2 * even_a + B2 * even_b,
        A2 * A * odd_a + B2 * B * odd_b + x5,
    ]
}

/// [`sums`] of lines of tiles; `place` says where in `to` each of the four lines goes.
#[inline(always)]
pub(super) fn sums_of_lines(six: [&[f32]; SIDE], to: &mut [f32], place: impl Fn(usize) -> usize) {
    let length = six[0].len();
    let [x0, x1, x2, x3, x4, x5] = six.map(|line| &line[..length]);
    for output in 0..OUTPUTS {
        let to = &mut to[place(output)..][..length];
        for i in 0..length {
            to[i] = sums([x0[i], x1[i], x2[i], x3[i], x4[i], x5[i]])[output];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_outputs_of_one_axis_are_those_of_the_definition() {
        let (x, w) = ([0.3, -1.2, 2.5, 0.7, -0.4, 1.9], [0.8, -0.5, 1.1]);
        let mut transformed = [[0f32]; SIDE];
        inputs(x.each_ref().map(std::slice::from_ref), transformed.each_mut().map(|y| &mut y[..]));
        let weights = weights(w.map(|w| [w]));
        let products = std::array::from_fn(|i| transformed[i][0] * weights[i][0]);
        for (i, found) in sums(products).into_iter().enumerate() {
            let expected: f32 = (0..3).map(|tap| x[i + tap] * w[tap]).sum();
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }
}
