//! HTML answers of the admin address, under a policy that lets a page load nothing from anywhere.
//!
//! Styles and scripts stand in the page itself and are named in the policy by their hashes, so that nothing that
//! slips into a page can run.

use std::fmt::Write;

use axum::{
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
    response::IntoResponse,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

/// What a page may run.
pub struct Policy<'p> {
    /// The texts of its `style` elements.
    pub styles: &'p [&'p str],
    /// The texts of its `script` elements.
    pub scripts: &'p [&'p str],
}

impl Policy<'_> {
    /// The value of `Content-Security-Policy`. Pages may ask their own address for data, and nothing else.
    fn text(&self) -> String {
        let mut text = String::from(
            "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        );
        for (directive, sources) in [("style-src", self.styles), ("script-src", self.scripts)] {
            if !sources.is_empty() {
                let _ = write!(text, "; {directive}");
            }
            for source in sources {
                let _ = write!(text, " 'sha256-{}'", STANDARD.encode(digest(&SHA256, source.as_bytes())));
            }
        }
        if !self.scripts.is_empty() {
            text.push_str("; connect-src 'self'");
        }
        text
    }
}

/// A whole page: its title, the texts of its `style` elements, what its body shows, and the texts of the `script`
/// elements at the end of it.
pub fn whole(title: &str, styles: &[&str], body: &Markup, scripts: &[&str]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="icon" href="data:,";
                @for style in styles { style { (PreEscaped(style)) } }
            }
            body {
                (body)
                @for script in scripts { script { (PreEscaped(script)) } }
            }
        }
    }
}

/// The answer that is `html`.
pub fn page(policy: &Policy<'_>, html: String) -> impl IntoResponse + use<> {
    (
        [
            (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (CONTENT_SECURITY_POLICY, policy.text()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (REFERRER_POLICY, "no-referrer".to_owned()),
            (CACHE_CONTROL, "no-store".to_owned()),
        ],
        html,
    )
}
