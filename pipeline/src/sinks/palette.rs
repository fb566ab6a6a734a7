//! 256 colours for a run of frames.

use std::collections::BTreeMap;

use color_quant::NeuQuant;

/// The most colours that a GIF frame can have.
const MAX_COLOURS: usize = 256;

/// How many pixels the quantiser learns from at most: more do not change the palette visibly, but cost time.
const MAX_LEARNED_PIXELS: usize = 1 << 18;

/// How many of the learned pixels the quantiser looks at in one pass: 1 is all (best), 30 a thirtieth (fastest).
/// Our choice: 3 cannot be told from 1 by eye on the clips of the embedded model and takes a third of the time.
const SAMPLING_FACTOR: i32 = 3;

/// A palette and the way from a colour to its entry.
pub(super) struct Palette {
    colours: Vec<u8>,
    lookup: Lookup,
}

enum Lookup {
    /// The frames have few enough colours for each to keep its own entry.
    Exact(BTreeMap<[u8; 3], u8>),
    /// Nearest entry, remembered for each colour seen.
    Nearest { quantiser: NeuQuant, seen: BTreeMap<[u8; 3], u8> },
}

impl Palette {
    /// The palette for these frames of packed RGB: exact for up to 256 colours, else learned from all frames alike.
    pub(super) fn of(frames: &[&[u8]]) -> Self {
        let pixels = || frames.iter().flat_map(|frame| frame.as_chunks::<3>().0);
        let mut exact = BTreeMap::new();
        for pixel in pixels() {
            if exact.len() > MAX_COLOURS {
                break;
            }
            exact.entry(*pixel).or_insert(0);
        }
        if exact.len() <= MAX_COLOURS {
            let mut colours = Vec::with_capacity(exact.len() * 3);
            for (entry, (colour, index)) in (0..=u8::MAX).zip(exact.iter_mut()) {
                *index = entry;
                colours.extend_from_slice(colour);
            }
            return Self { colours, lookup: Lookup::Exact(exact) };
        }
        let total = frames.iter().map(|frame| frame.len() / 3).sum::<usize>();
        let stride = total.div_ceil(MAX_LEARNED_PIXELS);
        let learned: Vec<u8> =
            pixels().step_by(stride).flat_map(|[r, g, b]| [*r, *g, *b, u8::MAX]).collect();
        let quantiser = NeuQuant::new(SAMPLING_FACTOR, MAX_COLOURS, &learned);
        let colours = quantiser.color_map_rgb();
        Self { colours, lookup: Lookup::Nearest { quantiser, seen: BTreeMap::new() } }
    }

    /// Packed RGB of all entries.
    pub(super) fn colours(&self) -> &[u8] {
        &self.colours
    }

    /// The entry of each pixel of a frame of packed RGB.
    pub(super) fn indices(&mut self, frame: &[u8]) -> Vec<u8> {
        let pixels = frame.as_chunks::<3>().0;
        match &mut self.lookup {
            // A colour outside the frames that the palette was made of cannot come: `of` saw them all.
            Lookup::Exact(entries) => {
                pixels.iter().map(|pixel| entries.get(pixel).copied().unwrap_or(0)).collect()
            }
            Lookup::Nearest { quantiser, seen } => pixels
                .iter()
                .map(|&[r, g, b]| {
                    *seen
                        .entry([r, g, b])
                        .or_insert_with(|| quantiser.index_of(&[r, g, b, u8::MAX]) as u8)
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rebuilt(palette: &mut Palette, frame: &[u8]) -> Vec<u8> {
        let entries = palette.colours().to_vec();
        let indices = palette.indices(frame);
        indices.iter().flat_map(|&index| entries[usize::from(index) * 3..][..3].to_vec()).collect()
    }

    #[test]
    fn few_colours_stay_exact_over_all_frames() {
        let frames: Vec<Vec<u8>> = [0u8, 128]
            .iter()
            .map(|&start| (0..128).flat_map(|v| [start + v, v / 2, 7]).collect())
            .collect();
        let views: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let mut palette = Palette::of(&views);
        for frame in &frames {
            assert_eq!(&rebuilt(&mut palette, frame), frame);
        }
    }

    #[test]
    fn many_colours_come_close() {
        let frame: Vec<u8> = (0..128u8)
            .flat_map(|x| (0..128u8).flat_map(move |y| [2 * x, 2 * y, 255 - x - y]))
            .collect();
        let mut palette = Palette::of(&[&frame]);
        let rebuilt = rebuilt(&mut palette, &frame);
        let squares =
            frame.iter().zip(&rebuilt).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
        let rms = (squares.sum::<f64>() / frame.len() as f64).sqrt();
        assert!(rms < 8.0, "the palette is {rms} grey levels off");
    }
}
