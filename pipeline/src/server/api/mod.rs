//! The HTTP API: OpenAI's Videos API, as its Python clients send it, with settings of our own.

mod body;
mod caller;
mod check;
mod content;
mod create;
mod error;
mod events;
mod fields;
mod health;
mod models;
mod openapi;
mod query;
mod state;
mod streams;
mod unbroken;
mod video_object;
mod videos;

use actix_web::Resource;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};

use super::page;

pub use error::ApiError;
pub use state::ApiState;
pub use streams::{StreamLimits, StreamPlaces};

/// The patterns of all addresses of the API.
pub(super) const ADDRESSES: [&str; 13] = [
    "/v1/videos",
    "/v1/videos/{id}",
    "/v1/videos/{id}/content",
    "/v1/videos/{id}/remix",
    "/v1/videos/{id}/cancel",
    "/v1/videos/{id}/events",
    "/v1/videos/{id}/preview",
    "/v1/models",
    "/v1/models/{model}",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
];

/// Enters every address. Each tells, in the API's words, which methods it takes.
pub(super) fn configure(config: &mut ServiceConfig) {
    let get = |path: &str| resource(path, "GET");
    config
        .service(
            resource("/v1/videos", "GET, POST")
                .route(web::get().to(videos::list))
                .route(web::post().to(create::create)),
        )
        .service(
            resource("/v1/videos/{id}", "GET, DELETE")
                .route(web::get().to(videos::retrieve))
                .route(web::delete().to(videos::delete)),
        )
        .service(
            resource("/v1/videos/{id}/content", "GET, HEAD")
                .route(web::get().to(content::content))
                .route(web::head().to(content::content)),
        )
        .service(resource("/v1/videos/{id}/remix", "POST").route(web::post().to(create::remix)))
        .service(resource("/v1/videos/{id}/cancel", "POST").route(web::post().to(videos::cancel)))
        .service(get("/v1/videos/{id}/events").route(web::get().to(events::events)))
        .service(get("/v1/videos/{id}/preview").route(web::get().to(content::preview)))
        .service(get("/v1/models").route(web::get().to(models::list)))
        .service(get("/v1/models/{model}").route(web::get().to(models::retrieve)))
        .service(get("/healthz").route(web::get().to(health::alive)))
        .service(get("/readyz").route(web::get().to(health::ready)))
        .service(get("/metrics").route(web::get().to(health::metrics)))
        .service(get("/openapi.json").route(web::get().to(openapi::document)));
    page::configure(config);
    config.default_service(web::to(nothing_here));
}

/// An address that answers methods without a route as the API does.
pub(super) fn resource(path: &str, methods: &'static str) -> Resource {
    let refuse = move || async move { Err::<String, _>(ApiError::method_not_allowed(methods)) };
    web::resource(path).default_service(web::to(refuse))
}

async fn nothing_here() -> Result<String, ApiError> {
    Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this address."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_describes_every_address_but_its_own() {
        let document = openapi::described();
        let described: BTreeSet<&str> = document.paths.paths.keys().map(String::as_str).collect();
        let entered = ADDRESSES.into_iter().filter(|address| *address != "/openapi.json");
        assert_eq!(described, entered.collect());
    }
}
