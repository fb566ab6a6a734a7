//! What stands behind the question mark of an address.

use actix_web::HttpRequest;

use super::error::{ApiError, ApiResult};

/// Names and values of a query, all of them known.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Of a request.
    ///
    /// # Errors
    /// It cannot be read, has a name that is not among `known`, or a name twice.
    pub(super) fn of(request: &HttpRequest, known: &[&str]) -> ApiResult<Self> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(request.query_string())
            .map_err(|_| ApiError::bad_body("The address's query cannot be read."))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let message = format!("Unknown parameter: `{name}`.");
                return Err(ApiError::invalid(name, message));
            }
            if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(ApiError::invalid(name, format!("`{name}` is given twice.")));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}
