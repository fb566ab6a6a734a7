//! The description of this API, generated from the handlers and their types.

use std::sync::OnceLock;

use actix_web::HttpResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{content, create, events, health, models, videos};

/// What is served at `/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "On-device Sora",
        description = "Videos from text, on this machine. The Videos API of OpenAI's clients, with settings of its own."
    ),
    paths(
        create::create,
        create::remix,
        videos::retrieve,
        videos::list,
        videos::delete,
        videos::cancel,
        content::content,
        content::preview,
        events::events,
        models::list,
        models::retrieve,
        health::alive,
        health::ready,
        health::metrics,
    ),
    components(schemas(events::ProgressEvent)),
    security((), ("api_key" = [])),
    modifiers(&BearerKeys)
)]
struct Description;

/// Declares that keys come as bearer tokens.
struct BearerKeys;

impl Modify for BearerKeys {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = description.components.get_or_insert_with(Default::default);
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// What the handlers and their types say of themselves.
pub(super) fn described() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The document.
pub(super) async fn document() -> HttpResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    // The types of the description have a form in JSON.
    let text = TEXT.get_or_init(|| described().to_json().unwrap_or_default());
    HttpResponse::Ok().content_type("application/json").body(text.as_str())
}
