//! The page that a browser gets without a token: asks for it, keeps it for as long as the tab is open, shows what was
//! asked for.
//!
//! The token is in `sessionStorage` and sent in a header, so no other site can have it sent. The page that follows is
//! put in this one's place; its styles and scripts are therefore in this one's policy.

use axum::response::IntoResponse;
use maud::html;

use super::super::{
    dashboard::{SCRIPTS, STYLES},
    page::{self, Policy},
};

const SCRIPT: &str = include_str!("../assets/gate.js");

/// The page.
pub(super) fn page() -> impl IntoResponse {
    let body = html! {
        header { h1 { "tollgate" } }
        main {
            section {
                h2 { "Token" }
                p.quiet #said { "This admin address asks for the token of listen.admin_token_file." }
                p {
                    input #token type="password" autocomplete="off" aria-label="Token" size="40";
                    " "
                    button #go type="button" { "Go on" }
                }
            }
        }
    };
    let page = page::whole("tollgate", &STYLES[1..2], &body, &[SCRIPT]);
    let scripts = [SCRIPT, SCRIPTS[0], SCRIPTS[1]];
    page::page(&Policy { styles: &STYLES, scripts: &scripts }, page.into_string())
}
