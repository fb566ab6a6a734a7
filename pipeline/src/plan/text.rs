//! A plan in words.

use std::fmt::{self, Display, Formatter};

use super::{MemoryPlan, NetworkBytes};

/// Bytes as people read them: decimal units, as `--memory` takes them.
pub struct Readable(pub u64);

impl Display for Readable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000_000 => write!(f, "{:.0} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.0} MB", bytes / 1e6),
            _ => write!(f, "{:.2} GB", bytes / 1e9),
        }
    }
}

impl MemoryPlan {
    /// The plan in one line.
    pub fn summary(&self) -> String {
        let [embedding, denoising, decoding] = self.peak_bytes().map(Readable);
        format!(
            "memory {}: {} of {} transformer blocks stay, {} read a step; peaks: embedding {embedding}, \
             denoising {denoising}, decoding {decoding}",
            Readable(self.budget_bytes),
            self.retained_blocks,
            self.stdit3.blocks,
            Readable(self.step_read_bytes()),
        )
    }
}

impl Display for MemoryPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let budget = Readable(self.budget_bytes);
        writeln!(f, "{} on a budget of {budget}", self.size)?;
        writeln!(f, "  always in memory           {:>9}", Readable(self.base_bytes).to_string())?;
        let [embedding, denoising, decoding] = self.peak_bytes();
        let [t5_ahead, stdit3_ahead, decoder_ahead] = self.reads_ahead;
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
            "  transformer: {retained} of {blocks} blocks stay in memory, {} are read a step, whatever the number of videos",
            Readable(self.step_read_bytes())
        )?;
        let overlap = if self.overlaps {
            "stages overlap: prompts are embedded and videos decoded while others are denoised"
        } else {
            "stages take turns with memory where two do not fit at a time"
        };
        writeln!(f, "  {overlap}")?;
        let smallest = Readable(self.smallest_bytes());
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
    ahead: bool,
) -> fmt::Result {
    let reading = if ahead { "next block read ahead" } else { "blocks read when needed" };
    writeln!(
        f,
        "  {name:<20} works in {:>9}, peak {:>9}; {} blocks of {} in memory, {} on disk; {reading}",
        Readable(working).to_string(),
        Readable(peak).to_string(),
        network.blocks,
        Readable(network.block_bytes),
        Readable(network.stored_bytes),
    )
}
