//! MP4 with H.264: index at the front, exact durations, colours declared, no dates.

use std::io::{Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use shiguredo_mp4::bitstream::h264::{
    H264NalUnitType, H264SampleEntryConfig, LengthSize, build_avc1_box_from_annexb,
    parse_annexb_nal_units,
};
use shiguredo_mp4::boxes::{SampleEntry, UnknownBox};
use shiguredo_mp4::mux::{
    FinalizedBoxes, Mp4FileMuxer, Mp4FileMuxerOptions, Sample, estimate_maximum_moov_box_size,
};
use shiguredo_mp4::{BoxSize, BoxType, Encode, Mp4FileTime, TrackKind};
use sora_actors::messages::VideoChunk;

use super::error::SinkError;
use super::h264::{EncodedFrame, H264Encoder};
use super::video_file::VideoFile;
use super::{VideoFormat, VideoSink, checked_frames};

/// Writes H.264 in MP4. Frames go to the file as they come; room for the index is kept at the front, since the
/// number of frames is known.
pub struct Mp4Sink {
    file: VideoFile,
    encoder: H264Encoder,
    muxer: Mp4FileMuxer,
    target: PathBuf,
    format: VideoFormat,
    timing: FrameTiming,
    position: u64,
}

impl Mp4Sink {
    /// Opens the file and keeps room for its index.
    ///
    /// # Errors
    /// [`SinkError::Io`] when the file cannot be written, [`SinkError::Encoder`] when there is no encoder for the size.
    pub fn create(path: &Path, target: &Path, format: VideoFormat) -> Result<Self, SinkError> {
        let refused = |reason: String| SinkError::Encoder { target: target.to_path_buf(), reason };
        let options = Mp4FileMuxerOptions {
            reserved_moov_box_size: estimate_maximum_moov_box_size(&[format.num_frames]),
            ..Mp4FileMuxerOptions::default()
        };
        let encoder = H264Encoder::new(format).map_err(refused)?;
        let muxer =
            Mp4FileMuxer::with_options(options).map_err(|cause| refused(cause.to_string()))?;
        let mut file = VideoFile::create(path, target)?;
        let head = muxer.initial_boxes_bytes();
        file.write_all(head)
            .map_err(|source| SinkError::Io { target: target.to_path_buf(), source })?;
        let position = head.len() as u64;
        let timing = FrameTiming::of(format.fps);
        Ok(Self { file, encoder, muxer, target: target.to_path_buf(), format, timing, position })
    }

    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), SinkError> {
        let refused = |reason: String| SinkError::Encoder { target: self.target.clone(), reason };
        let frame = self.encoder.encode(rgb).map_err(refused)?;
        let data = length_prefixed(&frame).map_err(|cause| refused(cause.to_string()))?;
        let is_first = self.position == self.muxer.initial_boxes_bytes().len() as u64;
        let sample_entry = is_first.then(|| sample_entry(&frame)).transpose();
        let sample = Sample {
            track_kind: TrackKind::Video,
            sample_entry: sample_entry.map_err(|cause| refused(cause.to_string()))?,
            keyframe: frame.is_key,
            timescale: self.timing.ticks_per_second,
            duration: self.timing.ticks_per_frame,
            composition_time_offset: None,
            data_offset: self.position,
            data_size: data.len(),
        };
        self.muxer.append_sample(&sample).map_err(|cause| refused(cause.to_string()))?;
        self.position += data.len() as u64;
        let target = &self.target;
        self.file
            .write_all(&data)
            .map_err(|source| SinkError::Io { target: target.clone(), source })
    }
}

impl VideoSink for Mp4Sink {
    fn write_chunk(&mut self, chunk: &VideoChunk) -> Result<(), SinkError> {
        let target = self.target.clone();
        for rgb in checked_frames(chunk, self.format, &target)? {
            self.write_frame(rgb)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let refused = |reason: String| SinkError::Encoder { target: self.target.clone(), reason };
        let boxes = self.muxer.finalize().map_err(|cause| refused(cause.to_string()))?;
        if !boxes.is_faststart_enabled() {
            return Err(refused("more frames came than were announced".into()));
        }
        let mut parts: Vec<(u64, Vec<u8>)> = boxes
            .offset_and_bytes_pairs()
            .map(|(offset, bytes)| (offset, bytes.to_vec()))
            .collect();
        let undated = undated_index(boxes).map_err(|cause| refused(cause.to_string()))?;
        parts.push(undated);
        let write = |file: &mut VideoFile| {
            for (offset, bytes) in &parts {
                file.seek(SeekFrom::Start(*offset))?;
                file.write_all(bytes)?;
            }
            file.flush()
        };
        write(&mut self.file).map_err(|source| SinkError::Io { target: self.target, source })
    }
}

/// The index once more, with every date left empty instead of 1970, and its place in the file.
///
/// # Errors
/// Never in practice: the boxes were encoded once already.
fn undated_index(boxes: &FinalizedBoxes) -> shiguredo_mp4::Result<(u64, Vec<u8>)> {
    let mut index = boxes.moov_box().clone();
    let unset = Mp4FileTime::default();
    (index.mvhd_box.creation_time, index.mvhd_box.modification_time) = (unset, unset);
    for track in &mut index.trak_boxes {
        (track.tkhd_box.creation_time, track.tkhd_box.modification_time) = (unset, unset);
        let media = &mut track.mdia_box.mdhd_box;
        (media.creation_time, media.modification_time) = (unset, unset);
    }
    let (_, head) = boxes.offset_and_bytes_pairs().next().unwrap_or_default();
    // The index follows `ftyp`, which says its own length in its first four bytes.
    let ftyp_bytes = head.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
    Ok((u64::from(ftyp_bytes), index.encode_to_vec()?))
}

/// What players read before the first frame: sizes, SPS and PPS (out of band, as `avc1` wants them), and colours.
fn sample_entry(first: &EncodedFrame) -> shiguredo_mp4::Result<SampleEntry> {
    let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
    let mut entry = build_avc1_box_from_annexb(&first.annex_b, &config)?;
    entry.unknown_boxes.push(colour_box());
    Ok(SampleEntry::Avc1(entry))
}

/// `colr` of type `nclx`: BT.709 primaries, transfer and matrix, limited range. QuickTime wants it beside the VUI.
fn colour_box() -> UnknownBox {
    const BT709: [u8; 2] = [0, 1];
    let payload = [&b"nclx"[..], &BT709, &BT709, &BT709, &[0]].concat();
    let box_type = BoxType::Normal(*b"colr");
    let box_size = BoxSize::with_payload_size(box_type, payload.len() as u64);
    UnknownBox { box_type, box_size, payload }
}

/// A frame as `avc1` stores it: each NAL unit behind its length, parameter sets left out (they are in the index).
fn length_prefixed(frame: &EncodedFrame) -> shiguredo_mp4::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(frame.annex_b.len());
    for unit in parse_annexb_nal_units(&frame.annex_b)? {
        if !matches!(unit.nal_unit_type, H264NalUnitType::Sps | H264NalUnitType::Pps) {
            // A frame's units are far below 4 GiB: H.264 pictures have at most 139,264 macroblocks.
            data.extend_from_slice(&(unit.data.len() as u32).to_be_bytes());
            data.extend_from_slice(unit.data);
        }
    }
    Ok(data)
}

/// A frame's duration as a fraction of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameTiming {
    ticks_per_second: NonZeroU32,
    ticks_per_frame: u32,
}

impl FrameTiming {
    /// Exact for whole rates and for rates with up to three decimals, but those that are the NTSC family's to three
    /// decimals mean it: 23.976 is 24000/1001.
    fn of(fps: f64) -> Self {
        let ntsc = fps.round() * 1000.0 / 1001.0;
        let is_ntsc = fps.fract() != 0.0 && (fps - ntsc).abs() < 0.0005;
        let (ticks, ticks_per_frame) =
            if is_ntsc { (fps.round() * 1000.0, 1001) } else { ((fps * 1000.0).round(), 1000) };
        let ticks_per_second = NonZeroU32::new(ticks as u32).unwrap_or(NonZeroU32::MIN);
        Self { ticks_per_second, ticks_per_frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_durations_are_exact() {
        for (fps, expected) in [
            (8.0, (8_000, 1000)),
            (24.0, (24_000, 1000)),
            (23.976, (24_000, 1001)),
            (29.97, (30_000, 1001)),
            (59.94, (60_000, 1001)),
            (12.5, (12_500, 1000)),
            (5.99, (5_990, 1000)),
            (23.98, (23_980, 1000)),
            (0.01, (10, 1000)),
        ] {
            let timing = FrameTiming::of(fps);
            assert_eq!((timing.ticks_per_second.get(), timing.ticks_per_frame), expected, "{fps}");
        }
    }
}
