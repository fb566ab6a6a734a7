//! How many threads tensor operations use.

use std::env;
use std::num::NonZeroUsize;

/// What candle and its matrix products read, each at its first use or at every call. Left unset, candle counts the
/// cores anew for every matrix product, which takes as long as a small one.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Lets tensor operations use so many threads, unless the user's environment says otherwise. Call it first of all.
pub fn set(threads: NonZeroUsize) {
    for variable in VARIABLES.into_iter().filter(|variable| env::var_os(variable).is_none()) {
        // SAFETY: nothing else runs yet, so nothing reads the environment at the same time.
        unsafe { env::set_var(variable, threads.to_string()) };
    }
}
