//! The H.264 encoder, set up for files that play everywhere and come out the same every time.

use openh264::OpenH264API;
use openh264::Timestamp;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile,
    QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;

use super::VideoFormat;
use super::colour::Yuv420;

/// The one quantiser for every macroblock: constant quality, whatever it costs. Our choice: at 18 the error is not
/// visible even on flat colours enlarged eightfold, where 26, the encoder's default, shows ringing.
const QUANTISER: u8 = 18;

/// How often a key frame comes at least, so that players can seek.
///
/// # Units
/// Seconds.
const KEY_FRAME_INTERVAL_SECONDS: f64 = 2.0;

/// Largest picture that the encoder takes, in either orientation.
const MAX_SIZE_PX: (usize, usize) = (3840, 2160);

/// Smallest width and height: one macroblock.
const MIN_SIZE_PX: usize = 16;

/// Frame rates that the encoder's own bookkeeping accepts; true times are in the container.
const ENCODER_FPS: (f64, f64) = (1.0, 60.0);

/// One encoded frame.
pub(super) struct EncodedFrame {
    /// NAL units, each behind a start code.
    pub(super) annex_b: Vec<u8>,
    /// Whether decoding can start here.
    pub(super) is_key: bool,
}

/// A single-threaded constant-quality encoder of one video.
pub(super) struct H264Encoder {
    encoder: Encoder,
    frame: Yuv420,
    format: VideoFormat,
    frames: u64,
}

/// Whether the encoder takes pictures of this size; the reason is the error.
pub(super) fn check_size(width_px: usize, height_px: usize) -> Result<(), String> {
    let (larger, smaller) = (width_px.max(height_px), width_px.min(height_px));
    if smaller < MIN_SIZE_PX || larger > MAX_SIZE_PX.0 || smaller > MAX_SIZE_PX.1 {
        return Err(format!(
            "H.264 pictures are {MIN_SIZE_PX}x{MIN_SIZE_PX} to {}x{} pixels here, not {width_px}x{height_px}: \
             choose `.gif` or a folder of frames",
            MAX_SIZE_PX.0, MAX_SIZE_PX.1
        ));
    }
    Ok(())
}

impl H264Encoder {
    /// An encoder for videos of this format.
    pub(super) fn new(format: VideoFormat) -> Result<Self, String> {
        let fps = format.fps.clamp(ENCODER_FPS.0, ENCODER_FPS.1);
        let key_frame_interval = (format.fps * KEY_FRAME_INTERVAL_SECONDS).round().max(1.0) as u32;
        let config = EncoderConfig::new()
            // One thread: the bytes must not depend on how many cores there are.
            .num_threads(1)
            // Of the modes that keep to the quantiser's bounds, the one that also never drops a frame.
            .rate_control_mode(RateControlMode::Bufferbased)
            .qp(QpRange::new(QUANTISER, QUANTISER))
            .bitrate(BitRate::from_bps(declared_bits_per_second(format)))
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .skip_frames(false)
            // These spend fewer bits where a camera's picture would not suffer; generated flat colours do.
            .adaptive_quantization(false)
            .background_detection(false)
            .scene_change_detect(false)
            .complexity(Complexity::High)
            .profile(Profile::High)
            .intra_frame_period(IntraFramePeriod::from_num_frames(key_frame_interval))
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|cause| cause.to_string())?;
        let frame = Yuv420::new(format.width_px, format.height_px);
        Ok(Self { encoder, frame, format, frames: 0 })
    }

    /// Encodes the next frame of packed RGB.
    pub(super) fn encode(&mut self, rgb: &[u8]) -> Result<EncodedFrame, String> {
        self.frame.fill(rgb, self.format.width_px, self.format.height_px);
        let Yuv420 { width_px, height_px, luma, blue_difference, red_difference } = &self.frame;
        let planes = YUVSlices::new(
            (luma, blue_difference, red_difference),
            (*width_px, *height_px),
            (*width_px, width_px / 2, width_px / 2),
        );
        let milliseconds = self.frames as f64 * 1000.0 / self.format.fps;
        self.frames += 1;
        let time = Timestamp::from_millis(milliseconds.round() as u64);
        let encoded = self.encoder.encode_at(&planes, time).map_err(|cause| cause.to_string())?;
        let is_key = match encoded.frame_type() {
            FrameType::IDR | FrameType::I => true,
            FrameType::P => false,
            other => return Err(format!("a frame came out as {other:?}")),
        };
        Ok(EncodedFrame { annex_b: encoded.to_vec(), is_key })
    }
}

/// The bit rate to declare, from which the encoder derives the level: 6 bits a pixel are more than constant quality
/// takes, and the bounds keep the level one that decoders have.
fn declared_bits_per_second(format: VideoFormat) -> u32 {
    let bits = (format.width_px * format.height_px) as f64 * format.fps * 6.0;
    bits.clamp(64_000.0, 60_000_000.0) as u32
}
