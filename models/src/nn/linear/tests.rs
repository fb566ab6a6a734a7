//! Packed products against the plain ones.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::*;
use crate::nn::simd::SimdLevel;
use crate::weights::{SafetensorsFile, TensorSource};

/// A layer for some vector instructions, and candle's own layer of the same tensors.
fn both_for(
    level: SimdLevel,
    in_features: usize,
    out_features: usize,
) -> (Linear, candle_nn::Linear) {
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    let (weight, bias) = (random(&[out_features, in_features]), random(&[out_features]));
    let tensors = HashMap::from([("weight", weight.clone())]);
    let bytes = safetensors::serialize(tensors, None).unwrap();
    let file = SafetensorsFile::from_bytes("(test)", bytes).unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(file);
    let weights = Weights::new(source, DType::F32, &Device::Cpu);
    let packed = PackedLinear::load_for(level, &weights, in_features, out_features, Some(&bias));
    let packed = packed.unwrap().expect("in f32 on a CPU");
    (Linear(Kind::Packed(packed)), candle_nn::Linear::new(weight, Some(bias)))
}

fn both(in_features: usize, out_features: usize) -> (Linear, candle_nn::Linear) {
    both_for(SimdLevel::best(), in_features, out_features)
}

/// Rows that are multiplied on one thread, by columns, and by rows, where there are two threads.
const ROWS_OF_EACH_WAY: [usize; 3] = [1, 200, 900];

/// Long enough for three blocks of features.
const MANY_FEATURES: usize = 2500;

fn on_two_threads(test: impl FnOnce() + Send) {
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(test);
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn packed_products_are_the_plain_ones_for_any_shape() {
    // Whole and broken tiles, panels, groups of panels and blocks of features; few rows and many.
    let shapes = [
        (1, 3, 5),
        (7, 48, 48),
        (13, 1100, 50),
        (400, 70, 129),
        (300, 600, 97),
        (13, MANY_FEATURES, 500),
        (61, MANY_FEATURES, 500),
    ];
    let levels = SimdLevel::available().flat_map(|level| shapes.map(|shape| (level, shape)));
    for (level, (rows, inputs, outputs)) in levels {
        let (packed, plain) = both_for(level, inputs, outputs);
        let x = Tensor::randn(0f32, 1.0, (2, rows, inputs), &Device::Cpu).unwrap();
        let (found, expected) = (packed.forward(&x).unwrap(), plain.forward(&x).unwrap());
        assert_eq!(found.dims(), expected.dims());
        for (a, b) in values(&found).iter().zip(values(&expected)) {
            assert!((a - b).abs() < 1e-3, "{a} is not {b} with {rows} x {inputs} x {outputs}");
        }
    }
}

#[test]
fn a_gate_is_closed_where_it_is_computed_as_it_is_afterwards() {
    let [gate, up] = [(); 2].map(|()| both(MANY_FEATURES, 130).0);
    on_two_threads(|| {
        for rows in ROWS_OF_EACH_WAY {
            let x = Tensor::randn(0f32, 1.0, (rows, MANY_FEATURES), &Device::Cpu).unwrap();
            let found = Linear::forward_gelu_gated(&gate, &up, &x).unwrap();
            let (gate, up) = (gate.forward(&x).unwrap(), up.forward(&x).unwrap());
            assert!(values(&found) == values(&gelu_gated(&gate, &up).unwrap()));
        }
    });
    let (gate, wider) = (both(8, 4).0, both(8, 5).0);
    let x = Tensor::zeros((2, 8), DType::F32, &Device::Cpu).unwrap();
    assert!(Linear::forward_gelu_gated(&gate, &wider, &x).is_err());
}

#[test]
fn layers_with_the_same_input_make_what_each_makes_alone() {
    let layers = [50, 600, 97].map(|outputs| both(MANY_FEATURES, outputs).0);
    let [a, b, c] = &layers;
    on_two_threads(|| {
        for rows in ROWS_OF_EACH_WAY {
            let x = Tensor::randn(0f32, 1.0, (rows, MANY_FEATURES), &Device::Cpu).unwrap();
            for (layer, found) in layers.iter().zip(Linear::forward_each([a, b, c], &x).unwrap()) {
                let alone = layer.forward(&x).unwrap();
                assert_eq!(found.dims(), alone.dims());
                assert!(values(&found) == values(&alone));
            }
        }
    });
    let (layer, other) = (both(8, 4).0, both(7, 4).0);
    let x = Tensor::zeros((2, 8), DType::F32, &Device::Cpu).unwrap();
    assert!(Linear::forward_each([&layer, &other], &x).is_err());
}

#[test]
fn a_product_added_where_it_is_computed_is_the_sum() {
    // More values than a thread copies at a time, with many rows.
    let (layer, _) = both(MANY_FEATURES, 300);
    on_two_threads(|| {
        for rows in ROWS_OF_EACH_WAY {
            let random = |length| Tensor::randn(0f32, 1.0, (rows, length), &Device::Cpu).unwrap();
            let (x, onto) = (random(MANY_FEATURES), random(300));
            let sum = (&onto + layer.forward(&x).unwrap()).unwrap();
            assert!(values(&layer.forward_onto(&x, &onto).unwrap()) == values(&sum));
            let strided = onto.t().unwrap().contiguous().unwrap().t().unwrap();
            assert!(values(&layer.forward_onto(&x, &strided).unwrap()) == values(&sum));
        }
    });
    let of = |shape: [usize; 2]| Tensor::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
    assert!(layer.forward_onto(&of([2, MANY_FEATURES]), &of([1, 300])).is_err());
    assert!(layer.forward_onto(&of([2, MANY_FEATURES]), &of([2, 301])).is_err());
}

#[test]
fn no_rows_make_no_rows() {
    let (packed, _) = both(4, 6);
    let none = Tensor::zeros((2, 0, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(packed.forward(&none).unwrap().dims(), [2, 0, 6]);
}

#[test]
fn a_row_s_bits_do_not_depend_on_its_company() {
    let (linear, _) = both(MANY_FEATURES, 300);
    let x = Tensor::randn(0f32, 1.0, (500, MANY_FEATURES), &Device::Cpu).unwrap();
    let together = linear.forward(&x).unwrap();
    for (first, rows) in [(0, 1), (3, 10), (37, 60), (90, 410)] {
        let alone = linear.forward(&x.narrow(0, first, rows).unwrap()).unwrap();
        assert!(values(&alone) == values(&together.narrow(0, first, rows).unwrap()));
    }
}

#[test]
fn what_was_computed_before_in_the_same_place_leaves_no_trace() {
    let layers =
        [(MANY_FEATURES, 500), (48, 5), (MANY_FEATURES, 97)].map(|(from, to)| both(from, to).0);
    let mut used = ProductScratch::default();
    for (layer, rows) in layers.iter().zip([61, 3, 13]) {
        let layer = layer.packed().unwrap();
        let x: Vec<f32> = (0..rows * layer.in_features()).map(|i| (i % 13) as f32 - 6.0).collect();
        let mut results = [(); 2].map(|()| vec![0f32; rows * layer.out_features()]);
        layer.multiply(&x, Activation::Gelu, &mut results[0], &mut used);
        layer.multiply(&x, Activation::Gelu, &mut results[1], &mut ProductScratch::default());
        assert!(results[0] == results[1]);
    }
    // No rows at all are nothing to do.
    layers[0].packed().unwrap().multiply(&[], Activation::None, &mut [], &mut used);
}

#[test]
fn rows_of_another_length_are_an_error() {
    let (linear, _) = both(8, 8);
    let x = Tensor::zeros((2, 7), DType::F32, &Device::Cpu).unwrap();
    assert!(linear.forward(&x).is_err());
}

#[test]
fn other_dtypes_are_multiplied_plainly() {
    let tensors =
        HashMap::from([("weight", Tensor::ones((4, 4), DType::F32, &Device::Cpu).unwrap())]);
    let bytes = safetensors::serialize(tensors, None).unwrap();
    let file = SafetensorsFile::from_bytes("(test)", bytes).unwrap();
    let weights = Weights::new(Arc::new(file), DType::BF16, &Device::Cpu);
    let linear = Linear::load_without_bias(&weights, 4, 4).unwrap();
    assert!(linear.packed().is_none());
    let x = Tensor::ones((3, 4), DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(linear.forward(&x).unwrap().dtype(), DType::BF16);
}
