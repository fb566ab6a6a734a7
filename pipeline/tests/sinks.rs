//! What the sinks write is read back: by decoders, box by box, and byte by byte.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use sora_actors::messages::{RgbFrame, VideoChunk};
use sora_pipeline::sinks::{SinkError, SinkKind, VideoFormat};

/// A red square that moves over a blue ground, the kind of picture that the embedded model draws.
fn clip(format: VideoFormat) -> Vec<RgbFrame> {
    let side = format.width_px / 3;
    let frame = |index: usize| {
        let left = index * (format.width_px - side) / format.num_frames;
        let inside =
            |x: usize, y: usize| (left..left + side).contains(&x) && (side..2 * side).contains(&y);
        let pixels = (0..format.height_px).flat_map(|y| (0..format.width_px).map(move |x| (x, y)));
        RgbFrame(
            pixels
                .flat_map(|(x, y)| if inside(x, y) { [220, 30, 40] } else { [20, 60, 200] })
                .collect(),
        )
    };
    (0..format.num_frames).map(frame).collect()
}

/// Frames that the decoder delivers at a time.
const CHUNK_FRAMES: usize = 4;

/// Writes a clip in chunks, as the decoder delivers them.
fn write(
    kind: SinkKind,
    path: &Path,
    format: VideoFormat,
    frames: &[RgbFrame],
) -> Result<(), SinkError> {
    let mut sink = kind.open(path, path, format)?;
    for (index, frames) in frames.chunks(CHUNK_FRAMES).enumerate() {
        sink.write_chunk(&chunk(index * CHUNK_FRAMES, format, frames))?;
    }
    sink.finish()
}

fn chunk(first_frame: usize, format: VideoFormat, frames: &[RgbFrame]) -> VideoChunk {
    VideoChunk::new(first_frame, format.width_px, format.height_px, frames.to_vec()).unwrap()
}

fn format(width_px: usize, height_px: usize, num_frames: usize, fps: f64) -> VideoFormat {
    VideoFormat { width_px, height_px, num_frames, fps }
}

fn png_pixels(path: &Path) -> ((u32, u32), Vec<u8>) {
    let mut reader =
        png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    ((info.width, info.height), pixels)
}

#[test]
fn extensions_choose_the_sink() {
    for (path, kind) in [
        ("a.gif", SinkKind::Gif),
        ("a.b.GIF", SinkKind::Gif),
        ("sheet.png", SinkKind::ContactSheet),
        ("frames", SinkKind::FrameFolder),
        ("frames.png/", SinkKind::FrameFolder),
    ] {
        assert_eq!(SinkKind::of(Path::new(path)).unwrap(), kind, "{path}");
    }
    let error = SinkKind::of(Path::new("film.avi")).unwrap_err().to_string();
    assert!(
        error.contains("film.avi") && error.contains(".mp4") && error.contains(".gif"),
        "{error}"
    );
}

#[test]
fn a_gif_keeps_flat_colours_exactly_and_lasts_as_long_as_the_video() {
    let folder = tempfile::tempdir().unwrap();
    let (path, format) = (folder.path().join("a.gif"), format(48, 32, 34, 8.0));
    let frames = clip(format);
    write(SinkKind::Gif, &path, format, &frames).unwrap();
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(File::open(&path).unwrap()).unwrap();
    let (mut hundredths, mut count) = (0, 0);
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        hundredths += u32::from(frame.delay);
        let rgb: Vec<u8> =
            frame.buffer.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect();
        assert_eq!(rgb, frames[count].0, "frame {count}");
        count += 1;
    }
    assert_eq!((count, hundredths), (34, 425));
    assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
}

/// Root mean square of what two pictures differ by, in grey levels.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

#[test]
fn a_gif_of_many_colours_stays_close_and_does_not_flicker_from_chunk_to_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let (path, format) = (folder.path().join("a.gif"), format(64, 64, 3 * CHUNK_FRAMES, 8.0));
    // A ground of 4096 colours that stands still under the moving square: each chunk has a palette of its own.
    let mut frames = clip(format);
    for frame in &mut frames {
        for (index, pixel) in frame.0.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            if *pixel == [20, 60, 200] {
                *pixel = [(index % 64 * 4) as u8, (index / 64 * 4) as u8, 120];
            }
        }
    }
    write(SinkKind::Gif, &path, format, &frames).unwrap();
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(File::open(&path).unwrap()).unwrap();
    let mut shown: Vec<Vec<u8>> = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        shown.push(frame.buffer.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect());
    }
    assert_eq!(shown.len(), frames.len());
    for (index, (shown, frame)) in shown.iter().zip(&frames).enumerate() {
        let off = difference(shown, &frame.0);
        assert!(off < 8.0, "frame {index} is {off} grey levels off");
    }
    // The upper third, where nothing moves.
    let still = 64 * 21 * 3;
    for pair in shown.windows(2) {
        let flicker = difference(&pair[0][..still], &pair[1][..still]);
        assert!(flicker < 8.0, "the ground flickers by {flicker} grey levels");
    }
}

#[test]
fn a_contact_sheet_shows_whole_frames_between_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let (path, format) = (folder.path().join("a.png"), format(12, 12, 4, 8.0));
    let frames = clip(format);
    write(SinkKind::ContactSheet, &path, format, &frames).unwrap();
    let ((width, height), pixels) = png_pixels(&path);
    // 3 columns would leave a hole, so 4 frames make 2 rows of 2.
    assert_eq!((width, height), (26, 26));
    let tile = |left: usize, top: usize| -> Vec<u8> {
        (top..top + 12).flat_map(|y| pixels[(y * 26 + left) * 3..][..36].to_vec()).collect()
    };
    for (index, (left, top)) in [(0, 0), (14, 0), (0, 14), (14, 14)].into_iter().enumerate() {
        assert_eq!(tile(left, top), frames[index].0, "frame {index}");
    }
    assert_eq!(pixels[12 * 3..14 * 3], [255; 6], "the gap");
}

#[test]
fn a_folder_holds_every_frame_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let format = format(20, 18, 19, 8.0);
    let frames = clip(format);
    write(SinkKind::FrameFolder, folder.path(), format, &frames).unwrap();
    for (index, frame) in frames.iter().enumerate() {
        let (size, pixels) = png_pixels(&folder.path().join(format!("{index:04}.png")));
        assert_eq!((size, &pixels), ((20, 18), &frame.0), "frame {index}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 19);
}

#[test]
fn equal_frames_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [SinkKind::DEFAULT, SinkKind::Gif, SinkKind::ContactSheet] {
        let format = format(64, 48, 20, 24.0);
        let mut written: Vec<Vec<u8>> = Vec::new();
        for name in ["a", "b"] {
            let path: PathBuf = folder.path().join(name);
            write(kind, &path, format, &clip(format)).unwrap();
            written.push(fs::read(&path).unwrap());
        }
        assert!(written[0] == written[1], "two {kind} files of one clip differ");
    }
}

#[test]
fn frames_of_another_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let announced = format(32, 32, 2, 8.0);
    for kind in [SinkKind::DEFAULT, SinkKind::Gif, SinkKind::ContactSheet] {
        let path = folder.path().join("a");
        let mut sink = kind.open(&path, Path::new("film"), announced).unwrap();
        let other = format(16, 32, 2, 8.0);
        let error = sink.write_chunk(&chunk(0, other, &clip(other))).unwrap_err().to_string();
        assert!(error.contains("32x32") && error.contains("16x32"), "{kind}: {error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_with_file_and_bytes() {
    // A device that accepts no byte stands for a disk without space.
    for kind in [SinkKind::DEFAULT, SinkKind::Gif, SinkKind::ContactSheet] {
        let format = format(64, 64, 34, 8.0);
        let attempt = kind.open(Path::new("/dev/full"), Path::new("films/out"), format).and_then(
            |mut sink| {
                sink.write_chunk(&chunk(0, format, &clip(format)))?;
                sink.finish()
            },
        );
        let error = attempt.unwrap_err();
        assert!(matches!(error, SinkError::Io { .. }), "{kind}: {error:?}");
        let text = error.to_string();
        assert!(
            text.contains("films/out") && text.contains("bytes") && text.contains("space"),
            "{kind}: {text}"
        );
    }
}

#[cfg(feature = "mp4")]
mod mp4 {
    use super::*;
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;
    use shiguredo_mp4::bitstream::h264::{LengthSize, length_prefixed_to_annexb};
    use shiguredo_mp4::boxes::SampleEntry;
    use shiguredo_mp4::demux::{Input, Mp4FileDemuxer};

    struct Film {
        size: (u16, u16),
        seconds: f64,
        frames: Vec<Vec<u8>>,
        key_frames: Vec<usize>,
    }

    /// Reads a film back to RGB by the matrix that its colour box names.
    fn decode(bytes: &[u8]) -> Film {
        let mut demuxer = Mp4FileDemuxer::new();
        while let Some(required) = demuxer.required_input() {
            let position = required.position as usize;
            demuxer.handle_input(Input { position: required.position, data: &bytes[position..] });
        }
        let track = &demuxer.tracks().unwrap()[0];
        let seconds = track.duration as f64 / f64::from(track.timescale.get());
        let mut film = Film { size: (0, 0), seconds, frames: Vec::new(), key_frames: Vec::new() };
        let mut decoder = Decoder::new().unwrap();
        let mut index = 0;
        while let Some(sample) = demuxer.next_sample().unwrap() {
            let data = &bytes[sample.data_offset as usize..][..sample.data_size];
            let mut packet = Vec::new();
            if let Some(SampleEntry::Avc1(entry)) = sample.sample_entry {
                film.size = (entry.visual.width, entry.visual.height);
                for set in entry.avcc_box.sps_list.iter().chain(&entry.avcc_box.pps_list) {
                    packet.extend_from_slice(&[0, 0, 0, 1]);
                    packet.extend_from_slice(set);
                }
            }
            packet.extend(length_prefixed_to_annexb(data, LengthSize::FourBytes).unwrap());
            if sample.keyframe {
                film.key_frames.push(index);
            }
            index += 1;
            if let Some(picture) = decoder.decode(&packet).unwrap() {
                film.frames.push(rgb(&picture));
            }
        }
        film.frames.extend(decoder.flush_remaining().unwrap().iter().map(rgb));
        film
    }

    fn rgb(picture: &impl YUVSource) -> Vec<u8> {
        let ((width, height), (luma_stride, chroma_stride, _)) =
            (picture.dimensions(), picture.strides());
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let at = y / 2 * chroma_stride + x / 2;
                let luma = (f64::from(picture.y()[y * luma_stride + x]) - 16.0) * 255.0 / 219.0;
                let [blue, red] = [picture.u()[at], picture.v()[at]]
                    .map(|value| (f64::from(value) - 128.0) * 255.0 / 224.0);
                let (red, blue) = (luma + 1.5748 * red, luma + 1.8556 * blue);
                let green = (luma - 0.2126 * red - 0.0722 * blue) / 0.7152;
                rgb.extend([red, green, blue].map(|value| value.round().clamp(0.0, 255.0) as u8));
            }
        }
        rgb
    }

    fn psnr(a: &[u8], b: &[u8]) -> f64 {
        assert_eq!(a.len(), b.len());
        let squares: f64 =
            a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        10.0 * (255.0f64.powi(2) / (squares / a.len() as f64)).log10()
    }

    #[test]
    fn a_film_decodes_to_its_frames() {
        let folder = tempfile::tempdir().unwrap();
        let (path, format) = (folder.path().join("a.mp4"), format(64, 64, 40, 8.0));
        let frames = clip(format);
        write(SinkKind::Mp4, &path, format, &frames).unwrap();
        let film = decode(&fs::read(&path).unwrap());
        assert_eq!((film.size, film.frames.len(), film.seconds), ((64, 64), 40, 5.0));
        assert_eq!(film.key_frames, [0, 16, 32]);
        for (index, (decoded, frame)) in film.frames.iter().zip(&frames).enumerate() {
            let psnr = psnr(decoded, &frame.0);
            // Half-resolution colour costs this much at the square's edges.
            assert!(psnr > 25.0, "frame {index}: {psnr} dB");
            // Away from them only the quantiser takes anything; another matrix would be 20 levels off.
            for (x, y) in [(3, 3), (60, 60), (index * 43 / 40 + 10, 32)] {
                let at = (y * 64 + x) * 3;
                let (found, wanted) = (&decoded[at..at + 3], &frame.0[at..at + 3]);
                let near = found.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= 4);
                assert!(near, "frame {index} at {x},{y}: {found:?} instead of {wanted:?}");
            }
        }
    }

    #[test]
    fn odd_sizes_and_fractional_rates_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, format) = (folder.path().join("a.mp4"), format(51, 33, 24, 23.976));
        write(SinkKind::Mp4, &path, format, &clip(format)).unwrap();
        let film = decode(&fs::read(&path).unwrap());
        // Chroma comes in pairs of pixels, so the last row and column are doubled.
        assert_eq!((film.size, film.frames.len()), ((52, 34), 24));
        assert!((film.seconds - 1.001).abs() < 1e-9, "{}", film.seconds);
    }

    #[test]
    fn a_film_starts_playing_before_it_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let (path, format) = (folder.path().join("a.mp4"), format(64, 64, 400, 24.0));
        write(SinkKind::Mp4, &path, format, &clip(format)).unwrap();
        let bytes = fs::read(&path).unwrap();
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let short = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let long = || u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap());
            names.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
            at += if short == 1 { long() as usize } else { short as usize };
        }
        assert_eq!(at, bytes.len(), "the last box ends where the file ends");
        assert_eq!(names, ["ftyp", "moov", "free", "mdat"]);
        let find = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
        let dates = find(b"mvhd") + 8;
        assert_eq!(bytes[dates..dates + 8], [0; 8], "no creation or modification date");
        let colours = find(b"colr") + 4;
        assert_eq!(bytes[colours..colours + 11], *b"nclx\0\x01\0\x01\0\x01\0");
    }

    #[test]
    fn sizes_that_the_encoder_lacks_are_refused_before_the_work() {
        for (width_px, height_px) in [(8, 64), (64, 8), (4000, 64), (2200, 2200)] {
            let refused =
                SinkKind::Mp4.check(format(width_px, height_px, 1, 8.0), Path::new("a.mp4"));
            assert!(matches!(refused, Err(SinkError::Format { .. })), "{width_px}x{height_px}");
        }
        SinkKind::Mp4.check(format(2160, 3840, 1, 8.0), Path::new("a.mp4")).unwrap();
    }
}
