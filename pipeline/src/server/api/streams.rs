//! Places for streams of events: so many in all, and so many for each key, so that one key cannot take all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ApiResult};
use crate::server::store::Owner;

/// How many streams may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// In all.
    pub all: usize,
    /// For one key, where keys are asked for.
    pub of_key: usize,
}

/// The places.
pub struct StreamPlaces {
    limits: StreamLimits,
    all: Arc<Semaphore>,
    /// As many entries as there are keys that were used.
    of_key: Mutex<HashMap<Owner, Arc<Semaphore>>>,
}

/// A stream's place, which is free again when this is dropped.
pub(super) struct StreamPlace {
    _all: OwnedSemaphorePermit,
    _of_key: Option<OwnedSemaphorePermit>,
}

impl StreamPlaces {
    /// All free.
    pub fn new(limits: StreamLimits) -> Self {
        Self { limits, all: Arc::new(Semaphore::new(limits.all)), of_key: Mutex::default() }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// 429 when the key has as many as it may have, 503 when all are taken.
    pub(super) fn take(&self, owner: &Owner) -> ApiResult<StreamPlace> {
        let _of_key = match owner.is_nobody() {
            true => None,
            false => Some(self.of_key(owner).try_acquire_owned().map_err(|_| {
                let message = format!("This key has {} streams open already.", self.limits.of_key);
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message)
            })?),
        };
        let _all = self.all.clone().try_acquire_owned();
        let _all =
            _all.map_err(|_| ApiError::busy("too_many_streams", "Too many streams are open."))?;
        Ok(StreamPlace { _all, _of_key })
    }

    fn of_key(&self, owner: &Owner) -> Arc<Semaphore> {
        let mut of_key = self.of_key.lock().unwrap_or_else(PoisonError::into_inner);
        let places = of_key.entry(owner.clone());
        places.or_insert_with(|| Arc::new(Semaphore::new(self.limits.of_key))).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use actix_web::ResponseError;

    use super::*;

    #[test]
    fn a_key_cannot_take_the_places_of_others() {
        let places = StreamPlaces::new(StreamLimits { all: 4, of_key: 2 });
        let refused = |owner: &Owner| places.take(owner).map(drop).unwrap_err().status_code();
        let [greedy, modest] = ["a", "b"].map(|name| Owner(name.into()));
        let taken: Vec<_> = (0..2).map(|_| places.take(&greedy).unwrap()).collect();
        assert_eq!(refused(&greedy), StatusCode::TOO_MANY_REQUESTS);
        let first = places.take(&modest).unwrap();
        drop(taken);
        drop(places.take(&greedy).unwrap());
        // Where no keys are asked for, nobody is told apart.
        let nobody = Owner::default();
        let _others: Vec<_> = (0..3).map(|_| places.take(&nobody).unwrap()).collect();
        assert_eq!(refused(&greedy), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        drop(places.take(&greedy).unwrap());
    }
}
