//! The three transforms of Winograd's `F(2x2, 3x3)`, on many tiles or channels at a time.
//!
//! A tile of 2x2 outputs depends on 4x4 inputs. All three transforms do the same along both axes, so each is a transform
//! of four values (or three weights) done twice.
//!
//! # Source
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, section 4.1.

/// Values of a transformed tile along one axis.
pub(super) const SIDE: usize = 4;

/// Products of one tile and one pair of channels, in place of the 36 of its four outputs.
pub(super) const PRODUCTS: usize = SIDE * SIDE;

/// `G g`: three weights become four.
#[inline(always)]
pub(super) fn weights<const N: usize>([a, b, c]: [[f32; N]; 3]) -> [[f32; N]; SIDE] {
    let mut four = [a, [0.0; N], [0.0; N], c];
    for lane in 0..N {
        let (sum, middle) = (0.5 * (a[lane] + c[lane]), 0.5 * b[lane]);
        (four[1][lane], four[2][lane]) = (sum + middle, sum - middle);
    }
    four
}

/// `B^T d`: four rows of inputs become four rows.
#[inline(always)]
pub(super) fn inputs([a, b, c, d]: [&[f32]; SIDE], to: [&mut [f32]; SIDE]) {
    let [to_a, to_b, to_c, to_d] = to;
    let from = a.iter().zip(b).zip(c.iter().zip(d));
    let rows = to_a.iter_mut().zip(to_b).zip(to_c.iter_mut().zip(to_d));
    for (((a, b), (c, d)), ((to_a, to_b), (to_c, to_d))) in from.zip(rows) {
        (*to_a, *to_b, *to_c, *to_d) = (a - c, b + c, c - b, b - d);
    }
}

/// `A^T m`: four rows of sums become two.
#[inline(always)]
pub(super) fn sums([a, b, c, d]: [&[f32]; SIDE], to: [&mut [f32]; 2]) {
    let [to_a, to_b] = to;
    let from = a.iter().zip(b).zip(c.iter().zip(d));
    for (((a, b), (c, d)), (to_a, to_b)) in from.zip(to_a.iter_mut().zip(to_b)) {
        (*to_a, *to_b) = (a + b + c, b - c - d);
    }
}
