//! How much memory may be used.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use sora_actors::block_loader::LOOK_AHEAD;
use sora_models::bundle::ModelBundle;
use sora_pipeline::{GraphLimits, MemoryLimits, open_sora};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// How much memory may be used, and what for.
#[derive(Args)]
pub struct MemoryArguments {
    /// Memory for the whole program, such as 3.3GB: blocks of weights stay in memory as far as it reaches, and the others
    /// are read again in every step [default: what the machine has free]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,

    /// Blocks that are read while another one computes, at most 4; 0 reads each when it is needed
    #[arg(long, default_value_t = MemoryLimits::default().read_ahead, value_parser = parse_read_ahead, value_name = "N")]
    pub read_ahead: usize,

    /// Keep no blocks in memory between steps
    #[arg(long)]
    pub no_retain: bool,

    /// Read weights no faster than so many megabytes a second, to rehearse a slower disk
    #[arg(long, value_name = "MB/S", value_parser = parse_rate)]
    pub read_limit: Option<NonZeroU64>,
}

impl MemoryArguments {
    /// The limits of a graph in which no video is given up because its frames are taken slowly, through a pager or onto a
    /// busy disk: that delays nobody else's.
    ///
    /// # Errors
    /// The model has fewer blocks than there are to be workers.
    pub fn graph_limits(
        &self,
        workers: Option<NonZeroUsize>,
        bundle: &ModelBundle,
    ) -> anyhow::Result<GraphLimits> {
        let mut limits = GraphLimits { memory: self.limits(), ..GraphLimits::default() };
        limits.consumer.patience = Duration::MAX;
        limits.workers = workers.map_or(limits.workers, NonZeroUsize::get);
        open_sora::check_workers(bundle, limits.workers)?;
        Ok(limits)
    }

    /// The limits for the graph.
    pub fn limits(&self) -> MemoryLimits {
        MemoryLimits {
            budget_bytes: self.memory.map_or_else(free_bytes, |memory| memory.as_u64()),
            read_ahead: self.read_ahead,
            retain: !self.no_retain,
            read_limit: self.read_limit,
        }
    }
}

/// What the machine has free, or what this process's group of processes may use, if less.
pub fn free_bytes() -> u64 {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    // Where the system does not tell, nothing is known to be scarce.
    let Ok(system) = system else { return u64::MAX };
    // What a group of processes uses counts files it has read, which give way; so its limit is what is told.
    let of_group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    match system.available_memory() {
        0 => of_group,
        free => free.min(of_group),
    }
}

/// Megabytes a second as bytes a second.
pub fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let refused = || "expected megabytes a second, at least 0.1, such as 450".to_string();
    let megabytes: f64 = text.parse().map_err(|_| refused())?;
    // A slower disk would take minutes for a block, in which nothing could stop it.
    let rate = NonZeroU64::new((megabytes * 1e6) as u64).filter(|_| megabytes >= 0.1);
    rate.ok_or_else(refused)
}

fn parse_read_ahead(text: &str) -> Result<usize, String> {
    let blocks = text.parse().ok().filter(|blocks| *blocks <= LOOK_AHEAD);
    blocks.ok_or_else(|| format!("expected a number of blocks, at most {LOOK_AHEAD}"))
}
