//! The page that a browser gets without a token: asks for it, keeps it for as long as the tab is open, shows what was
//! asked for.
//!
//! The token is in `sessionStorage` and sent in a header, so no other site can have it sent. The page that follows is
//! put in this one's place; its styles and scripts are therefore in this one's policy.

use axum::response::IntoResponse;
use maud::{DOCTYPE, PreEscaped, html};

use super::super::{
    dashboard::{SCRIPTS, STYLES},
    page::{self, Policy},
};

const SCRIPT: &str = include_str!("../assets/gate.js");

/// The page.
pub(super) fn page() -> impl IntoResponse {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "tollgate" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLES[1])) }
            }
            body {
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
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    let scripts = [SCRIPT, SCRIPTS[0], SCRIPTS[1]];
    page::page(&Policy { styles: &STYLES, scripts: &scripts }, page.into_string())
}
