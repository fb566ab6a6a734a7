//! When a device has done what it was given, and when the memory of what was dropped is free.
//!
//! A GPU works on after a call is back: candle hands operations over in batches, and a tensor that was dropped goes into a pool
//! of the device's, where it stays allocated until somebody waits for the device. Whoever counts time or memory asks here.

use candle_core::Device;

use crate::error::Result;

/// Waits until everything that this thread gave `device` to compute is done. At once on the CPU, where calls return when
/// they are done.
///
/// # Errors
/// The device failed on something that it had been given.
pub fn finish_work(device: &Device) -> Result<()> {
    #[cfg(feature = "metal")]
    if let Device::Metal(metal) = device {
        // `Device::synchronize` may return too early when two threads wait at once: the other one has taken what there is
        // to wait for. This waits for the caller's own work.
        return Ok(releasing(|| metal.flush_and_wait_current())?);
    }
    Ok(device.synchronize()?)
}

/// Has `device` really free what was dropped. Work that uses it must be done: see [`finish_work`].
pub fn free_dropped(device: &Device) {
    // What a device failed on is told to those who wait for their own work, and this begins none: in the background an app
    // may begin none.
    let _ = releasing(|| device.synchronize());
}

/// Does work that calls Apple's frameworks, and lets go of the objects that they leave to the thread that they were called
/// on: such a thread collects them for as long as it lives unless it says when it is done with them. Elsewhere nothing but
/// the work.
pub fn releasing<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_vendor = "apple")]
    return objc2::rc::autoreleasepool(|_| work());
    #[cfg(not(target_vendor = "apple"))]
    work()
}
