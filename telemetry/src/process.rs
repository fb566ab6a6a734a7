//! What the operating system says of this process.

#![allow(clippy::disallowed_macros)]

use metrics::{counter, gauge};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

use crate::names;

/// Looks at this process. Where the operating system tells nothing, nothing is recorded.
pub(crate) struct ProcessProbe {
    system: Option<System>,
    pid: Option<Pid>,
}

impl ProcessProbe {
    pub(crate) fn new() -> Self {
        gauge!(names::BUILD_INFO, names::LABEL_VERSION => env!("CARGO_PKG_VERSION")).set(1.0);
        Self { system: System::new().ok(), pid: get_current_pid().ok() }
    }

    /// Records memory and CPU time as they are now.
    pub(crate) fn record(&mut self) {
        let (Some(system), Some(pid)) = (&mut self.system, self.pid) else { return };
        let of_memory_and_cpu =
            ProcessRefreshKind::nothing().with_memory().with_cpu().without_tasks();
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            false,
            of_memory_and_cpu,
        );
        let Some(process) = system.process(pid) else { return };
        counter!(names::PROCESS_CPU_SECONDS).absolute(process.accumulated_cpu_time() / 1000);
        gauge!(names::PROCESS_RESIDENT_BYTES).set(process.memory() as f64);
        gauge!(names::PROCESS_VIRTUAL_BYTES).set(process.virtual_memory() as f64);
        gauge!(names::PROCESS_START_SECONDS).set(process.start_time() as f64);
    }
}

/// Records what the operating system says that this process takes, where it tells nobody but the process itself. Elsewhere the
/// page has the system's figure already, and the next look replaces this one.
pub fn record_resident_bytes(bytes: u64) {
    gauge!(names::PROCESS_RESIDENT_BYTES).set(bytes as f64);
}
