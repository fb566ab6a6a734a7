//! The output of a convolution in pieces that threads compute by themselves.

/// Some rows of one output frame: one slice for each output channel.
pub(super) struct Band<'a> {
    pub(super) sample: usize,
    pub(super) frame: usize,
    pub(super) first_row: usize,
    pub(super) channels: Vec<&'a mut [f32]>,
}

/// Splits `result` `[batch, out_channels, frames, rows, row_length]` into bands of `band_rows` rows, or less at the end of a
/// frame.
pub(super) fn split_into_bands(
    result: &mut [f32],
    out_channels: usize,
    [frames, rows]: [usize; 2],
    row_length: usize,
    band_rows: usize,
) -> Vec<Band<'_>> {
    let bands_of_frame = rows.div_ceil(band_rows);
    let batch = result.len() / (out_channels * frames * rows * row_length).max(1);
    let mut bands: Vec<_> = (0..batch * frames * bands_of_frame)
        .map(|index| Band {
            sample: index / bands_of_frame / frames,
            frame: index / bands_of_frame % frames,
            first_row: index % bands_of_frame * band_rows,
            channels: Vec::with_capacity(out_channels),
        })
        .collect();
    for (index, frame) in result.chunks_exact_mut(rows * row_length).enumerate() {
        let (sample, time) = (index / frames / out_channels, index % frames);
        let first = (sample * frames + time) * bands_of_frame;
        for (band, rows) in frame.chunks_mut(band_rows * row_length).enumerate() {
            bands[first + band].channels.push(rows);
        }
    }
    bands
}
