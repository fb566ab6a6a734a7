//! What `sora serve` is told.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use sora_pipeline::server::RequestLimits;

use super::{MemoryArguments, MetricsArguments, ModelArguments, TraceArguments};

/// The port when nothing is said: that of most servers of this API.
const DEFAULT_PORT: u16 = 8000;

/// What `sora serve` is told.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ServeArguments {
    /// Address to listen at; any but this machine's own needs --api-key-file
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,

    /// Port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PORT)]
    pub port: u16,

    /// Folder for the queue and the videos, created when missing; one server uses it at a time
    #[arg(long, value_name = "FOLDER", default_value = "sora-data")]
    pub data: PathBuf,

    /// File of API keys, one a line, or `sha256:` and a key's SHA-256. Each key sees its own videos alone
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,

    /// A further name that the model answers to, such as one that a client insists on; can be given again
    #[arg(long = "model-name", value_name = "NAME")]
    pub model_names: Vec<String>,

    /// Prompts that may wait; one more is refused
    #[arg(long, value_name = "N", default_value_t = RequestLimits::default().queue.waiting)]
    pub max_queue: usize,

    /// Unfinished videos that one key may have [default: as many as may wait]
    #[arg(long, value_name = "N")]
    pub max_per_key: Option<usize>,

    /// Largest request body
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::b(RequestLimits::default().body_bytes as u64))]
    pub max_body: ByteSize,

    /// Longest prompt, in characters
    #[arg(long, value_name = "N", default_value_t = RequestLimits::default().prompt_chars)]
    pub max_prompt: usize,

    /// Most denoising steps
    #[arg(long, value_name = "N", default_value_t = RequestLimits::default().steps)]
    pub max_steps: usize,

    /// Most frames of a video
    #[arg(long, value_name = "N", default_value_t = RequestLimits::default().frames)]
    pub max_frames: usize,

    /// Most pixels of a frame: width times height
    #[arg(long, value_name = "N", default_value_t = RequestLimits::default().frame_pixels)]
    pub max_pixels: usize,

    /// Delete videos so long after they were over, such as 12h or 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    pub keep_for: Option<Duration>,

    /// Delete the oldest videos when all of them take more, such as 20GB [default: never]
    #[arg(long, value_name = "SIZE")]
    pub keep_bytes: Option<ByteSize>,

    /// Give up unfinished videos that were accepted for another model, device or dtype
    #[arg(long)]
    pub abandon_unfinished: bool,

    /// Write prompts to the log
    #[arg(long)]
    pub log_prompts: bool,

    /// Print the address as a line of JSON
    #[arg(long)]
    pub json: bool,

    /// Workers that share the transformer's blocks, so that several prompts overlap
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    #[command(flatten)]
    pub model: ModelArguments,

    #[command(flatten)]
    pub memory: MemoryArguments,

    #[command(flatten)]
    pub metrics: MetricsArguments,

    #[command(flatten)]
    pub trace: TraceArguments,
}

const AFTER_HELP: &str = "\
Speaks OpenAI's Videos API: POST /v1/videos with a prompt, then GET /v1/videos/{id} and
/v1/videos/{id}/content. /openapi.json describes all of it, /metrics is for Prometheus.

A prompt that was accepted is on the disk. After Ctrl-C, a crash or a power failure the same command
goes on with what waits and what was under way, to the same bytes.

Exit codes: 0 stopped as asked, 1 it can work no more, 2 it cannot be started as asked, 130 stopped at
once by a second Ctrl-C.";

/// A whole number and a unit: `45s`, `30m`, `12h`, `30d`.
fn parse_age(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600)];
    let parsed = UNITS.iter().find_map(|&(unit, seconds)| {
        text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds)
    });
    parsed
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a whole number and s, m, h or d, such as 30d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        for (text, seconds) in [("45s", 45), ("30m", 1800), ("12h", 43_200), ("2d", 172_800)] {
            assert_eq!(parse_age(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "5", "d", "-1d", "1.5h", "99999999999999999999d", "9999999999999999999d"] {
            assert!(parse_age(bad).is_err(), "{bad}");
        }
    }
}
