//! The web page, which is part of the program.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, ServiceConfig};

use super::api::resource;

/// A file of the page: its address, its type and its bytes.
type Asset = (&'static str, &'static str, &'static [u8]);

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    ("/", "text/html; charset=utf-8", include_bytes!("index.html")),
    ("/page.css", "text/css; charset=utf-8", include_bytes!("page.css")),
    ("/page.js", SCRIPT, include_bytes!("page.js")),
    ("/api.js", SCRIPT, include_bytes!("api.js")),
    ("/card.js", SCRIPT, include_bytes!("card.js")),
    ("/machine.js", SCRIPT, include_bytes!("machine.js")),
];

/// The addresses of the page's files.
pub(super) fn addresses() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|(address, ..)| *address)
}

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
