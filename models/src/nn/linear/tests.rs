//! Packed products against the plain ones.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::*;
use crate::weights::{SafetensorsFile, TensorSource};

/// Weights of both kinds of layers: as f32 they are packed, and candle's own layer is made of the same tensors.
fn both(in_features: usize, out_features: usize) -> (Linear, candle_nn::Linear) {
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    let (weight, bias) = (random(&[out_features, in_features]), random(&[out_features]));
    let tensors = HashMap::from([("weight", weight.clone()), ("bias", bias.clone())]);
    let bytes = safetensors::serialize(tensors, None).unwrap();
    let file = SafetensorsFile::from_bytes("(test)", bytes).unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(file);
    let weights = Weights::new(source, DType::F32, &Device::Cpu);
    let packed = Linear::load(&weights, in_features, out_features).unwrap();
    assert!(packed.packed().is_some());
    (packed, candle_nn::Linear::new(weight, Some(bias)))
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn packed_products_are_the_plain_ones_for_any_shape() {
    // Whole and broken tiles, panels and blocks of features; few rows and many.
    for (rows, inputs, outputs) in
        [(1, 3, 5), (7, 48, 48), (13, 1100, 50), (400, 70, 129), (300, 600, 97)]
    {
        let (packed, plain) = both(inputs, outputs);
        let x = Tensor::randn(0f32, 1.0, (2, rows, inputs), &Device::Cpu).unwrap();
        let (found, expected) = (packed.forward(&x).unwrap(), plain.forward(&x).unwrap());
        assert_eq!(found.dims(), expected.dims());
        for (a, b) in values(&found).iter().zip(values(&expected)) {
            assert!((a - b).abs() < 1e-3, "{a} is not {b} with {rows} x {inputs} x {outputs}");
        }
    }
}

#[test]
fn no_rows_make_no_rows() {
    let (packed, _) = both(4, 6);
    let none = Tensor::zeros((2, 0, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(packed.forward(&none).unwrap().dims(), [2, 0, 6]);
}

#[test]
fn a_row_s_bits_do_not_depend_on_its_company() {
    let (linear, _) = both(1000, 300);
    let x = Tensor::randn(0f32, 1.0, (500, 1000), &Device::Cpu).unwrap();
    let together = linear.forward(&x).unwrap();
    for (first, rows) in [(0, 1), (3, 10), (37, 60), (90, 410)] {
        let alone = linear.forward(&x.narrow(0, first, rows).unwrap()).unwrap();
        assert!(values(&alone) == values(&together.narrow(0, first, rows).unwrap()));
    }
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
