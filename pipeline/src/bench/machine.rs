//! The machine that figures are of, and what the operating system says about this process.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// What figures depend on besides the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: u64,
}

impl Machine {
    /// This machine; what it does not tell is empty or 0.
    pub fn this() -> Self {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted).ok();
        let cpu =
            system.as_ref().and_then(|system| Some(system.cpus().first()?.brand().trim().into()));
        Self {
            cpu: cpu.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: system.map_or(0, |system| system.total_memory()),
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let memory = self.memory_bytes as f64 / 1e9;
        write!(f, "{}, {} cores, {memory:.1} GB", self.cpu, self.cores)
    }
}

/// The most memory that this process ever had resident, as the operating system counts it; `None` where it does not tell.
pub fn peak_resident_bytes() -> Option<u64> {
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The "high water mark" in Linux' account of a process, which is in units of 1024 bytes.
fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read() {
        let status = "Name:\tsora\nVmPeak:\t  300 kB\nVmHWM:\t  200 kB\nVmRSS:\t 100 kB\n";
        assert_eq!(peak_in(status), Some(200 * 1024));
        assert_eq!(peak_in("Name:\tsora\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_peak_and_this_machine_has_memory() {
        assert!(peak_resident_bytes() > Some(1 << 20));
        let machine = Machine::this();
        assert!(machine.memory_bytes > 1 << 20 && machine.cores > 0, "{machine:?}");
    }
}
