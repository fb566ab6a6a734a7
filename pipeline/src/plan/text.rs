//! A plan in words.

use std::fmt::{self, Display, Formatter};

use sora_actors::memory::readable_bytes as readable;

use super::{MemoryPlan, NetworkBytes};

impl MemoryPlan {
    /// The plan in one line.
    pub fn summary(&self) -> String {
        let [embedding, denoising, decoding] = self.peak_bytes().map(readable);
        format!(
            "memory {}: {} denoised together, {} of {} transformer blocks stay, {} read a step; each stage \
             alone: embedding {embedding}, denoising {denoising}, decoding {decoding}",
            readable(self.budget_bytes),
            match self.videos_together {
                1 => "1 video".into(),
                videos => format!("{videos} videos"),
            },
            self.retained_blocks,
            self.stdit3.blocks,
            readable(self.step_read_bytes()),
        )
    }
}

impl Display for MemoryPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let budget = readable(self.budget_bytes);
        writeln!(f, "{} on a budget of {budget}", self.size)?;
        writeln!(f, "  always in memory           {:>9}", readable(self.base_bytes))?;
        let [embedding, denoising, decoding] = self.peak_bytes();
        let [t5_ahead, stdit3_ahead, decoder_ahead] = self.blocks_ahead;
        let rows = [
            ("embedding (T5)", &self.t5, self.embedding_bytes, embedding, t5_ahead),
            ("denoising (STDiT3)", &self.stdit3, self.denoising_bytes, denoising, stdit3_ahead),
            ("decoding (VAE)", &self.decoder, self.decoding_bytes, decoding, decoder_ahead),
        ];
        for (name, network, working, peak, ahead) in rows {
            stage(f, name, network, (working, peak), ahead)?;
        }
        let (retained, blocks) = (self.retained_blocks, self.stdit3.blocks);
        writeln!(
            f,
            "  transformer: {retained} of {blocks} blocks stay in memory while {} denoised and nothing else is done; {} are read a step, whatever the number of videos",
            match self.videos_together {
                1 => "one video is".into(),
                videos => format!("{videos} videos are"),
            },
            readable(self.step_read_bytes())
        )?;
        let overlap = if self.overlaps {
            format!(
                "stages overlap: prompts are embedded and videos decoded while others are denoised, in {} together",
                readable(self.overlapped_bytes())
            )
        } else {
            "stages take turns with memory where two do not fit at a time".into()
        };
        writeln!(f, "  {overlap}")?;
        let smallest = readable(self.smallest_bytes());
        match self.fits() {
            true => write!(f, "  smallest budget that would do: {smallest}"),
            false => write!(f, "  too small: it takes at least {smallest}"),
        }
    }
}

fn stage(
    f: &mut Formatter<'_>,
    name: &str,
    network: &NetworkBytes,
    (working, peak): (u64, u64),
    blocks_ahead: u64,
) -> fmt::Result {
    let reading = match blocks_ahead {
        0 => "blocks read when needed",
        _ => "next block read ahead",
    };
    writeln!(
        f,
        "  {name:<20} works in {:>9}, peak {:>9}; {} blocks of {} in memory, {} on disk; {reading}",
        readable(working),
        readable(peak),
        network.blocks,
        readable(network.block_bytes),
        readable(network.stored_bytes),
    )
}
