//! Work that goes on when its client goes away.

use super::error::{ApiError, ApiResult};

/// Does work to its end, whether or not anybody waits for the answer: a handler is dropped with its connection, and what
/// follows a commit must not be left out.
///
/// # Errors
/// The work's own; 503 when the server stopped in the middle of it.
pub(super) async fn to_its_end<T: 'static>(
    work: impl Future<Output = ApiResult<T>> + 'static,
) -> ApiResult<T> {
    actix_web::rt::spawn(work).await.unwrap_or_else(|_| Err(ApiError::shutting_down()))
}
