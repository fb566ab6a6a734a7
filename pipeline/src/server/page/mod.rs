//! The web page, which is part of the program.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, ServiceConfig};

use super::api::resource;

/// A file of the page: its address, its type and its bytes.
type Asset = (&'static str, &'static str, &'static [u8]);

const ASSETS: &[Asset] =
    &[("/", "text/html; charset=utf-8", include_bytes!("index.html").as_slice())];

/// Enters the page's addresses.
pub(super) fn configure(config: &mut ServiceConfig) {
    for &(path, content_type, bytes) in ASSETS {
        let answer = move || async move {
            HttpResponse::Ok()
                .content_type(content_type)
                .insert_header((CACHE_CONTROL, "no-cache"))
                .body(bytes)
        };
        config.service(resource(path, "GET").route(web::get().to(answer)));
    }
}
