//! Headers that mean harm, and sound ones.

#![allow(clippy::unwrap_used)]
use super::*;

/// A header by its parts, as whoever means harm would write it.
#[derive(Clone)]
struct Forged {
    version: u32,
    count: Option<u64>,
    values: Vec<Vec<u8>>,
    /// Name, lengths (the last axis first), the type's number, and the offset.
    tensors: Vec<(&'static str, Vec<u64>, u32, u64)>,
    data_bytes: usize,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn value(key: &str, value_type: u32, bytes: &[u8]) -> Vec<u8> {
    [&text(key)[..], &value_type.to_le_bytes(), bytes].concat()
}

fn sound() -> Forged {
    Forged {
        version: 3,
        count: None,
        values: vec![value("general.alignment", 4, &32u32.to_le_bytes())],
        tensors: vec![("half", vec![4, 2], 1, 0), ("blocks", vec![32, 2], 8, 32)],
        data_bytes: 100,
    }
}

impl Forged {
    fn bytes(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend(self.version.to_le_bytes());
        let count = self.count.unwrap_or(self.tensors.len() as u64);
        file.extend(count.to_le_bytes());
        file.extend((self.values.len() as u64).to_le_bytes());
        file.extend(self.values.concat());
        for (name, lengths, number, offset) in &self.tensors {
            file.extend(text(name));
            file.extend((lengths.len() as u32).to_le_bytes());
            file.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
            file.extend(number.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32) + self.data_bytes, 0);
        file
    }

    fn read(&self) -> Result<BTreeMap<String, GgufTensor>, String> {
        read(&FileBytes::in_memory("x", self.bytes().into()))
    }
}

#[test]
fn a_sound_header_is_read() {
    let tensors = sound().read().unwrap();
    let (half, blocks) = (&tensors["half"], &tensors["blocks"]);
    assert_eq!((&half.shape[..], half.encoding), (&[2, 4][..], Encoding::Plain(DType::F16)));
    assert_eq!(blocks.encoding, Encoding::Blocks(BlockType::Q8_0));
    assert_eq!((blocks.extent.bytes, blocks.extent.start - half.extent.start), (68, 32));
}

#[test]
fn what_a_header_cannot_mean_is_refused_with_the_reason() {
    let tensor = |lengths: &[u64], number, offset| Forged {
        tensors: vec![("x", lengths.to_vec(), number, offset)],
        ..sound()
    };
    let with = |value: Vec<u8>| Forged { values: vec![value], ..sound() };
    let list =
        |element: u32, count: u64| [&element.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let shape = |lengths: &[i32]| {
        let numbers = lengths.iter().flat_map(|length| length.to_le_bytes());
        let shape = [list(5, lengths.len() as u64), numbers.collect()].concat();
        with(value("comfy.gguf.orig_shape.half", 9, &shape))
    };
    let nested = list(9, 1).repeat(1000);
    let huge = 1 << 40;
    for (forged, told) in [
        (Forged { version: 9, ..sound() }, "version"),
        (Forged { count: Some(u64::MAX), ..sound() }, "tensor_count"),
        (Forged { count: Some(1 << 29), ..sound() }, "declares"),
        (with(value("general.alignment", 4, &[0; 4])), "alignment of 0"),
        (with(value("general.alignment", 0, &[0; 4])), "alignment of 0"),
        (with(value("general.alignment\0", 4, &[0; 4])), "alignment of 0"),
        (with(value("general.alignment\0\0\0", 1, &[0; 4])), "alignment of 0"),
        (with(value("x", 8, &u64::MAX.to_le_bytes())), "string length"),
        (with(value("x", 9, &list(8, 1 << 29))), "array of"),
        (with(value("x", 9, &nested)), "depth"),
        (with(value("x", 77, &[])), "value-type"),
        (tensor(&[huge, huge], 0, 0), "beyond the end"),
        (tensor(&[huge, huge, 0], 0, 0), "beyond the end"),
        (tensor(&[huge], 0, 0), "beyond the end"),
        (tensor(&[u64::MAX, 32], 8, 0), "whole blocks"),
        (tensor(&[8, 2], 0, u64::MAX), "beyond the end"),
        (tensor(&[8, 2], 0, 64), "beyond the end"),
        (tensor(&[1; 9], 0, 0), "dimensions"),
        (tensor(&[33, 2], 8, 0), "whole blocks"),
        (tensor(&[64], 8, 0), "whole blocks"),
        (tensor(&[], 8, 0), "whole blocks"),
        (tensor(&[128, 2], 12, 0), "whole blocks of 256"),
        (tensor(&[8, 2], 16, 0), "dtype"),
        (tensor(&[32, 1], 9, 0), "not for files"),
        (shape(&[2, 2, 3]), "none of so many"),
        (shape(&[-2, -4]), "none of so many"),
        (shape(&[i32::MAX; 9]), "none of so many"),
    ] {
        let error = forged.read().expect_err(told);
        assert!(error.contains(told), "{error} does not tell of {told}");
    }
    let mut twice = sound();
    twice.tensors[1].0 = "half";
    assert!(twice.read().unwrap_err().contains("twice"));
    let mut overlapping = sound();
    overlapping.tensors[1].3 = 8;
    assert!(overlapping.read().unwrap_err().contains("lie in the same bytes"));
}

#[test]
fn more_axes_than_the_format_has_are_taken_from_the_header_s_values() {
    let lengths = [2, 1, 2, 1, 2].map(i32::to_le_bytes).concat();
    let list = [&5u32.to_le_bytes()[..], &5u64.to_le_bytes(), &lengths].concat();
    let mut forged = sound();
    forged.values.push(value("comfy.gguf.orig_shape.half", 9, &list));
    assert_eq!(forged.read().unwrap()["half"].shape, [2, 1, 2, 1, 2]);
}

#[test]
fn a_header_that_is_cut_anywhere_or_has_any_byte_changed_ends_in_order() {
    let bytes = sound().bytes();
    let open = |bytes: Vec<u8>| read(&FileBytes::in_memory("x", bytes.into()));
    for length in 0..bytes.len() {
        assert!(open(bytes[..length].to_vec()).is_err(), "{length}");
    }
    for place in 0..bytes.len() - sound().data_bytes {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] ^= change;
            // What is accepted lies within the file.
            for tensor in open(changed).into_iter().flatten() {
                assert!(tensor.1.extent.end().unwrap() <= bytes.len() as u64);
            }
        }
    }
}

#[test]
fn a_long_header_is_read_and_one_without_end_is_not() {
    let filled = |bytes: usize| {
        let text = [&(bytes as u64).to_le_bytes()[..], &vec![b'x'; bytes]].concat();
        let mut forged = sound();
        forged.values.push(value("long", 8, &text));
        forged
    };
    assert_eq!(filled(3 << 20).read().unwrap().len(), 2);
    let error = filled(5 << 20).read().unwrap_err();
    assert!(error.contains("more than 4194304 bytes"), "{error}");
}
