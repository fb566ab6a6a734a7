//! How many threads tensor operations use.

use std::env;
use std::num::NonZeroUsize;

/// What candle and its matrix products read, each at its first use or at every call. Left unset, candle counts the
/// cores anew for every matrix product, which takes as long as a small one.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Lets tensor operations use as many threads as are asked for, or else as the environment says, or else the default.
/// Call it first of all.
pub fn set(asked: Option<NonZeroUsize>, default: NonZeroUsize) {
    if asked.is_none() && VARIABLES.iter().any(|variable| env::var_os(variable).is_some()) {
        return;
    }
    let threads = asked.unwrap_or(default).to_string();
    for variable in VARIABLES {
        // SAFETY: nothing else runs yet, so nothing reads the environment at the same time.
        unsafe { env::set_var(variable, &threads) };
    }
}

/// How many threads tensor operations use.
pub fn in_use() -> usize {
    candle_core::utils::get_num_threads()
}
