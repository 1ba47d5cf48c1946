//! Any text is a configuration, or a list of mistakes that names places within it; no secret is ever shown.

use std::path::Path;

use tollgate::control::config::{self, view};

const SECRET: &str = "an-uncommon-secret-of-more-than-sixty-four-bytes-that-nobody-would-write-by-chance";

/// The invariant.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Files beside it do not exist.
    let path = Path::new("/nonexistent/tollgate.toml");
    let secret = |_: &str| Some(SECRET.as_bytes().to_vec());
    match config::parse(path, text, &secret) {
        Ok(plan) => {
            let shown = view::view(&plan).to_string();
            assert!(!shown.contains(SECRET) && !format!("{plan:?}").contains(SECRET), "a secret is shown");
            assert!(!plan.routes.is_empty() && !plan.clusters.is_empty());
            for route in &plan.routes {
                assert!(route.cluster < plan.clusters.len());
                assert!(route.access.keys.is_none_or(|keys| keys < plan.key_sets.len()));
            }
        }
        Err(issues) => {
            let lines = text.split('\n').count();
            let found = issues.sorted();
            assert!(!found.is_empty(), "refused without a reason");
            for issue in found {
                assert!(issue.line <= lines, "line {} of {lines}", issue.line);
                assert!(!issue.message.is_empty() && !issue.message.contains(SECRET));
            }
        }
    }
}
