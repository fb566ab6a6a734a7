//! Animated GIF: a palette for each chunk, delays that add up, endless loop.

use std::io::Write;
use std::path::{Path, PathBuf};

use gif::{EncodingError, Frame, Repeat};
use sora_actors::messages::VideoChunk;

use super::error::SinkError;
use super::palette::Palette;
use super::video_file::VideoFile;
use super::{VideoFormat, VideoSink, checked_frames};

/// Shortest delay that browsers honour; below it they fall back to a tenth of a second.
///
/// # Units
/// Hundredths of a second.
const SHORTEST_DELAY: u64 = 2;

/// Writes an animated GIF. It holds the palette of one chunk and one indexed frame.
pub struct GifSink {
    encoder: gif::Encoder<VideoFile>,
    target: PathBuf,
    format: VideoFormat,
    clock: FrameClock,
    /// The last frame, not yet written: its delay is known only when the next shown frame comes.
    pending: Option<Frame<'static>>,
}

impl GifSink {
    /// Opens the file and writes its header.
    ///
    /// # Errors
    /// [`SinkError::Io`] when the file cannot be written.
    pub fn create(path: &Path, target: &Path, format: VideoFormat) -> Result<Self, SinkError> {
        let file = VideoFile::create(path, target)?;
        let failed = |cause| failure(target, cause);
        let (width, height) = (format.width_px as u16, format.height_px as u16);
        let mut encoder = gif::Encoder::new(file, width, height, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        let clock = FrameClock { fps: format.fps, frame: 0, shown_until: 0 };
        Ok(Self { encoder, target: target.to_path_buf(), format, clock, pending: None })
    }

    fn write_pending(&mut self, delay: u16) -> Result<(), SinkError> {
        if let Some(mut frame) = self.pending.take() {
            frame.delay = delay;
            self.encoder.write_frame(&frame).map_err(|cause| failure(&self.target, cause))?;
        }
        Ok(())
    }
}

impl VideoSink for GifSink {
    fn write_chunk(&mut self, chunk: &VideoChunk) -> Result<(), SinkError> {
        let frames: Vec<&[u8]> = checked_frames(chunk, self.format, &self.target)?.collect();
        let mut palette = Palette::of(&frames);
        for rgb in frames {
            let Some(previous_delay) = self.clock.next_frame() else { continue };
            self.write_pending(previous_delay)?;
            self.pending = Some(Frame {
                width: self.format.width_px as u16,
                height: self.format.height_px as u16,
                palette: Some(palette.colours().to_vec()),
                buffer: palette.indices(rgb).into(),
                ..Frame::default()
            });
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let delay = self.clock.last_delay();
        self.write_pending(delay)?;
        let Self { encoder, target, .. } = *self;
        let mut file = encoder.into_inner().map_err(|cause| failure(&target, cause))?;
        file.flush().map_err(|source| SinkError::Io { target, source })
    }
}

/// Turns a frame rate into GIF delays: whole hundredths of a second that never drift from the true time.
struct FrameClock {
    fps: f64,
    frame: u64,
    /// When the last shown frame began, in hundredths of a second.
    shown_until: u64,
}

impl FrameClock {
    fn start_of(&self, frame: u64) -> u64 {
        (frame as f64 * 100.0 / self.fps).round() as u64
    }

    /// The delay to give the frame before this one, or `None` when this frame comes too soon to be shown.
    fn next_frame(&mut self) -> Option<u16> {
        let start = self.start_of(self.frame);
        let first = self.frame == 0;
        self.frame += 1;
        if !first && start - self.shown_until < SHORTEST_DELAY {
            return None;
        }
        let delay = start - self.shown_until;
        self.shown_until = start;
        Some(saturated(delay))
    }

    /// The delay of the last shown frame.
    fn last_delay(&self) -> u16 {
        saturated((self.start_of(self.frame) - self.shown_until).max(SHORTEST_DELAY))
    }
}

fn saturated(delay: u64) -> u16 {
    u16::try_from(delay).unwrap_or(u16::MAX)
}

fn failure(target: &Path, cause: EncodingError) -> SinkError {
    let target = target.to_path_buf();
    match cause {
        EncodingError::Io(source) => SinkError::Io { target, source },
        other => SinkError::Encoder { target, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(fps: f64, frames: usize) -> Vec<u16> {
        let mut clock = FrameClock { fps, frame: 0, shown_until: 0 };
        let mut delays: Vec<u16> = (0..frames).filter_map(|_| clock.next_frame()).skip(1).collect();
        delays.push(clock.last_delay());
        delays
    }

    #[test]
    fn delays_add_up_to_the_true_duration() {
        assert_eq!(delays(8.0, 4), [13, 12, 13, 12]);
        for fps in [0.5, 7.0, 24.0, 29.97, 50.0] {
            let total: u64 = delays(fps, 68).into_iter().map(u64::from).sum();
            assert_eq!(total, (6800.0 / fps).round() as u64, "{fps} frames a second");
        }
    }

    #[test]
    fn frames_too_fast_for_a_browser_are_left_out_instead_of_slowed_down() {
        let delays = delays(100.0, 10);
        assert_eq!(delays, [2; 5]);
    }
}
