#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, IndexOp};

use super::*;

/// Values that are all different and of both signs, without a random generator.
fn values(dims: &[usize]) -> Tensor {
    let count = dims.iter().product::<usize>();
    let values: Vec<_> = (0..count).map(|i| (i as f32 * 0.7318).sin()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// The definition of a convolution, one multiplication at a time.
fn naive(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, windows: [Window; 3]) -> Tensor {
    let (channels, frames, rows, columns) = x.dims4().unwrap();
    let (out_channels, _, kt, kh, kw) = weight.dims5().unwrap();
    let size = [frames, rows, columns];
    let outputs: Vec<_> =
        windows.iter().zip(size).map(|(window, size)| window.outputs(size).unwrap()).collect();
    let x: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    let weight: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
    let bias = bias.map(|bias| bias.to_vec1::<f32>().unwrap());
    let mut result = Vec::new();
    for o in 0..out_channels {
        for position in 0..outputs.iter().product::<usize>() {
            let at = [
                position / (outputs[1] * outputs[2]),
                position / outputs[2] % outputs[1],
                position % outputs[2],
            ];
            let mut sum = bias.as_ref().map_or(0.0, |bias| bias[o]);
            for (c, t, h, w) in (0..channels * kt * kh * kw)
                .map(|tap| (tap / (kt * kh * kw), tap / (kh * kw) % kt, tap / kw % kh, tap % kw))
            {
                let read: Option<Vec<usize>> = [t, h, w]
                    .iter()
                    .enumerate()
                    .map(|(axis, tap)| {
                        let padded = at[axis] * windows[axis].stride + tap;
                        let inside = padded.checked_sub(windows[axis].before)?;
                        (inside < size[axis]).then_some(inside)
                    })
                    .collect();
                if let Some(read) = read {
                    let value = x[((c * frames + read[0]) * rows + read[1]) * columns + read[2]];
                    let tap = (((o * channels + c) * kt + t) * kh + h) * kw + w;
                    sum += value * weight[tap];
                }
            }
            result.push(sum);
        }
    }
    Tensor::from_vec(result, (out_channels, outputs[0], outputs[1], outputs[2]), &Device::Cpu)
        .unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// The convolution of `x` `[in_channels, T, H, W]` by tensor operations, and packed at each level of this machine.
fn every_way(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    windows: [Window; 3],
) -> Vec<(String, Tensor)> {
    let plain = PlainKernel::new(weight, bias.cloned(), windows).unwrap();
    let mut results = vec![("plain".to_string(), plain.convolve(x).unwrap())];
    for level in SimdLevel::available() {
        let packed = PackedKernel::new(weight, bias, windows, level).unwrap();
        let result = packed.convolve(&x.unsqueeze(0).unwrap()).unwrap();
        results.push((format!("{level:?}"), result.squeeze(0).unwrap()));
    }
    results
}

#[test]
fn every_window_agrees_with_the_definition() {
    let axes = [Window::same(1), Window::same(3), Window::same(5), Window::halving()];
    let times = [Window::causal(1, 1), Window::causal(3, 1), Window::causal(3, 2)];
    for (frames, rows, columns) in [(2, 3, 2), (5, 7, 9), (4, 6, 5)] {
        for space in axes {
            for time in times {
                let x = values(&[3, frames, rows, columns]);
                let weight =
                    values(&[2, 3, time.kernel, space.kernel, space.kernel]).affine(1.0, 0.1);
                let (weight, bias) = (weight.unwrap(), values(&[2]));
                let windows = [time, space, space];
                let expected = naive(&x, &weight, Some(&bias), windows);
                for (way, result) in every_way(&x, &weight, Some(&bias), windows) {
                    let difference = largest_difference(&result, &expected);
                    assert!(difference < 1e-4, "{way} {windows:?} on {:?}: {difference}", x.dims());
                }
            }
        }
    }
}

#[test]
fn slabs_of_frames_and_of_rows_join_without_seams() {
    let windows = [Window::causal(3, 1), Window::same(3), Window::same(3)];
    let weight = values(&[4, 3, 3, 3, 3]);
    let kernel = PlainKernel::new(&weight, None, windows).unwrap();
    // Sizes of which four megabytes hold five of twelve frames, then a band of rows of one frame.
    for dims in [[3, 12, 8, 300], [3, 2, 40, 400]] {
        let (frames, rows) = kernel.slab(dims[1], dims[2], dims[3]);
        assert!(frames * rows < dims[1] * dims[2], "{dims:?} fits one slab: nothing to join");
        let x = values(&dims);
        let expected = naive(&x, &weight, None, windows);
        for (way, result) in every_way(&x, &weight, None, windows) {
            let difference = largest_difference(&result, &expected);
            assert!(difference < 1e-4, "{way} on {dims:?}: {difference}");
        }
    }
}

#[test]
fn every_number_of_channels_agrees_with_tensor_operations() {
    let windows = [Window::causal(3, 1), Window::same(3), Window::same(3)];
    // More channels than a block and a panel have, and not whole ones; bands of rows; several vectors and a part.
    for (in_channels, out_channels) in [(1, 1), (3, 4), (16, 5), (25, 8), (70, 13), (11, 24)] {
        let x = values(&[in_channels, 3, 17, 61]);
        let (weight, bias) =
            (values(&[out_channels, in_channels, 3, 3, 3]), values(&[out_channels]));
        let ways = every_way(&x, &weight, Some(&bias), windows);
        let largest = ways[0].1.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        for (way, result) in &ways[1..] {
            let difference = largest_difference(result, &ways[0].1);
            let limit = 1e-5 * largest;
            assert!(difference < limit, "{way}, {in_channels} to {out_channels}: {difference}");
        }
    }
}

#[test]
fn winograd_tiles_agree_with_the_direct_way() {
    let times = [Window::same(1), Window::causal(3, 1)];
    // Odd and even sizes, down to less than a tile; whole and broken panels, groups and bands.
    for (in_channels, out_channels, rows, columns) in
        [(32, 32, 1, 1), (40, 70, 2, 3), (33, 36, 17, 60), (64, 130, 9, 8), (48, 40, 5, 201)]
    {
        for time in times {
            let windows = [time, Window::same(3), Window::same(3)];
            let x = values(&[2, in_channels, 3, rows, columns]);
            let weight = values(&[out_channels, in_channels, time.kernel, 3, 3]);
            let bias = values(&[out_channels]);
            for level in SimdLevel::available() {
                let kernel = PackedKernel::new(&weight, Some(&bias), windows, level).unwrap();
                let kernel_of_magnitudes =
                    PackedKernel::new(&weight.abs().unwrap(), None, windows, level).unwrap();
                assert!(winograd::suits(&kernel));
                let size = [3, rows, columns];
                let direct = kernel.convolve_directly(&x, size, size).unwrap();
                // Against what the products' magnitudes come to: sums of either sign may cancel.
                let magnitudes =
                    kernel_of_magnitudes.convolve_directly(&x.abs().unwrap(), size, size);
                let largest = magnitudes.unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                let difference = largest_difference(&kernel.convolve(&x).unwrap(), &direct);
                assert!(difference < 2e-6 * largest, "{level:?}, {rows} x {columns}: {difference}");
            }
        }
    }
}

#[test]
fn doubling_agrees_with_a_convolution_of_the_doubled_picture() {
    let windows = [Window::same(1), Window::same(3), Window::same(3)];
    for (channels, rows, columns) in [(1, 1, 1), (5, 2, 3), (80, 9, 70), (11, 31, 33)] {
        let x = values(&[channels, 2, rows, columns]);
        let (weight, bias) = (values(&[10, channels, 3, 3]), values(&[10]));
        let doubled = x.upsample_nearest2d(2 * rows, 2 * columns).unwrap();
        let plain = PlainKernel::new(&weight, Some(bias.clone()), windows).unwrap();
        let expected = plain.convolve(&doubled).unwrap();
        let largest = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        for level in SimdLevel::available() {
            let kernel = PackedKernel::doubling(&weight, Some(&bias), level).unwrap();
            let result = kernel.convolve(&x.unsqueeze(0).unwrap()).unwrap().squeeze(0).unwrap();
            let difference = largest_difference(&result, &expected);
            assert!(difference < 1e-5 * largest, "{level:?} on {:?}: {difference}", x.dims());
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let windows = [Window::causal(3, 1), Window::same(3), Window::same(3)];
    // Directly, and by tiles.
    for out_channels in [24, 40] {
        let kernel = Kernel::new(&values(&[out_channels, 40, 3, 3, 3]), None, windows).unwrap();
        let Kernel::Packed(packed) = &kernel else { panic!("the weight was not laid out") };
        assert_eq!(winograd::suits(packed), out_channels == 40);
        let x = values(&[1, 40, 2, 30, 33]);
        let convolve = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| kernel.convolve(&x).unwrap())
        };
        assert_eq!(largest_difference(&convolve(1), &convolve(2)), 0.0);
        assert_eq!(largest_difference(&convolve(1), &convolve(5)), 0.0);
    }
}

#[test]
fn an_input_with_other_channels_is_an_error() {
    for windows in [[Window::same(1); 3], [Window::same(3); 3]] {
        let side = windows[0].kernel;
        let kernel = Kernel::new(&values(&[2, 3, side, side, side]), None, windows).unwrap();
        assert!(kernel.convolve(&values(&[1, 4, 3, 3, 3])).is_err());
    }
}

#[test]
fn later_frames_do_not_change_earlier_ones() {
    let windows = [Window::causal(3, 1), Window::same(3), Window::same(3)];
    let conv = CausalConv3d(Kernel::new(&values(&[4, 2, 3, 3, 3]), None, windows).unwrap());
    let x = values(&[2, 2, 6, 4, 5]);
    let other_end = (x.narrow(2, 4, 2).unwrap() * 3.0).unwrap();
    let other = Tensor::cat(&[&x.narrow(2, 0, 4).unwrap(), &other_end], 2).unwrap();
    let (ours, others) = (conv.forward(&x).unwrap(), conv.forward(&other).unwrap());
    let start = |x: &Tensor| x.narrow(2, 0, 4).unwrap();
    assert_eq!(largest_difference(&start(&ours), &start(&others)), 0.0);
    assert!(largest_difference(&ours, &others) > 0.1, "the last frames should differ");
}

#[test]
fn samples_do_not_mix() {
    let conv = Conv2d(
        Kernel::new(
            &values(&[4, 2, 3, 3]),
            Some(values(&[4])),
            [Window::same(1), Window::same(3), Window::same(3)],
        )
        .unwrap(),
    );
    let x = values(&[3, 2, 5, 4]);
    let together = conv.forward(&x).unwrap();
    for sample in 0..3 {
        let alone = conv.forward(&x.narrow(0, sample, 1).unwrap()).unwrap();
        assert!(largest_difference(&together.i(sample..=sample).unwrap(), &alone) < 1e-5);
    }
}

#[test]
fn an_input_smaller_than_the_kernel_is_an_error() {
    let window = Window::halving();
    let kernel =
        Kernel::new(&values(&[1, 1, 3, 3]), None, [Window::same(1), window, window]).unwrap();
    let error = kernel.convolve(&values(&[1, 1, 1, 1, 4])).unwrap_err().to_string();
    assert!(error.contains("too short"), "{error}");
}

#[test]
fn a_recorded_weight_stays_one_value() {
    let weight = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    let weight = weight.broadcast_as((4, 2, 3, 3)).unwrap();
    let Kernel::Plain(kernel) = Kernel::new(&weight, None, [Window::same(3); 3]).unwrap() else {
        panic!("the weight was laid out");
    };
    assert_eq!((kernel.matrix.dims(), kernel.matrix.stride()), (&[4, 18][..], &[0, 0][..]));
}
