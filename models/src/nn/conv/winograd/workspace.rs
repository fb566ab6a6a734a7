//! What convolutions by tiles compute in, kept from one call to the next.
//!
//! The operating system hands memory out page by page, filled with zeros, which takes longer than the transforms.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::inputs::TransformedInputs;
use super::transforms::PRODUCTS;
use super::weights::TransformedWeights;
use super::{POSITION_VALUES, PRODUCT_VALUES, Products, WEIGHT_VALUES};

/// Buffers of one call.
#[derive(Default)]
pub(super) struct Workspace {
    pub(super) inputs: TransformedInputs,
    pub(super) weights: TransformedWeights,
    pub(super) products: Products,
}

/// Those that no call is using: as many as ever were in use at a time.
static IDLE: Mutex<Vec<Workspace>> = Mutex::new(Vec::new());

impl Workspace {
    /// Does `work` in a workspace, of which nothing can be said but that its buffers may be there already.
    pub(super) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        let mut workspace = idle().pop().unwrap_or_default();
        let done = work(&mut workspace);
        idle().push(workspace);
        done
    }
}

/// What a workspace takes, about, for tensors and kernels of so many bytes.
pub(crate) fn workspace_bytes(widest_tensor: usize, largest_kernel: usize) -> usize {
    const MOST: usize = (PRODUCTS * POSITION_VALUES + WEIGHT_VALUES + PRODUCT_VALUES) * 4;
    // 36 values for each 16 inputs and outputs, with what rounding up to whole tiles and frames of zeros add; 36 for each 9
    // weights.
    MOST.min(2 * 4 * widest_tensor + 4 * largest_kernel)
}

/// Gives back what idle workspaces hold. Call it when no convolution will follow for a while.
pub fn release_workspaces() {
    idle().clear();
}

fn idle() -> MutexGuard<'static, Vec<Workspace>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}
