//! The table of routes: longest path prefix on segment boundaries, within the host that matches.
//!
//! A tree of segments, built once. The path looked up is the normal form that is also forwarded, so no
//! other spelling of a protected path reaches its endpoint. Path parameters (`;x=1`) do not take part in
//! the comparison: servlet containers cut them off before they look at the path, so `/payment;x` *is*
//! `/payment` to them and must meet the same checks here.

use super::{
    super::refusal::{Code, Refusal},
    Route,
};

/// All routes of a snapshot.
#[derive(Debug)]
pub struct RouteTable {
    routes: Box<[Route]>,
    /// Trees of routes for one host, by its name in lower case.
    hosts: Vec<(Box<str>, Node)>,
    /// Routes for any host.
    any_host: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Routes whose path ends here; their methods are disjoint, but for versions of one API that a field chooses.
    routes: Vec<u16>,
    /// Sorted by segment.
    children: Vec<(Box<[u8]>, Self)>,
}

impl RouteTable {
    /// A table of `routes`, whose paths, hosts and methods have been checked against each other.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut hosts: Vec<(Box<str>, Node)> = Vec::new();
        let mut any_host = Node::default();
        for route in &routes {
            let mut node = match &route.host {
                None => &mut any_host,
                Some(host) => {
                    let index = hosts.iter().position(|(known, _)| known == host).unwrap_or_else(|| {
                        hosts.push((host.clone(), Node::default()));
                        hosts.len() - 1
                    });
                    &mut hosts[index].1
                }
            };
            for segment in segments(route.path.as_bytes()) {
                let index = match node.position(segment) {
                    Ok(index) => index,
                    Err(index) => {
                        node.children.insert(index, (segment.into(), Node::default()));
                        index
                    }
                };
                node = &mut node.children[index].1;
            }
            node.routes.push(route.index);
        }
        Self { routes: routes.into(), hosts, any_host }
    }

    /// Every route.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route for a request. `authority` is host and perhaps port; `path` is in normal form.
    ///
    /// # Errors
    /// The 404 or 405 to answer with.
    pub fn find(&self, authority: Option<&[u8]>, path: &[u8], method: &str) -> Result<&Route, Refusal> {
        let of_host = authority.filter(|_| !self.hosts.is_empty()).and_then(|authority| {
            let host = host_of(authority);
            self.hosts.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(host))
        });
        let candidates = of_host
            .and_then(|(_, tree)| tree.deepest(path))
            .or_else(|| self.any_host.deepest(path))
            .ok_or(Refusal::new(Code::RouteNotFound, "path"))?;
        let mut candidates = candidates.iter().map(|&index| &self.routes[usize::from(index)]);
        let all = candidates.clone();
        candidates
            .find(|route| route.methods.contain(method))
            .ok_or_else(|| Refusal::method(all.map(|route| &route.methods)))
    }
}

impl Node {
    fn position(&self, segment: &[u8]) -> Result<usize, usize> {
        self.children.binary_search_by(|(known, _)| (**known).cmp(segment))
    }

    /// The routes of the deepest node on the way of `path` that has any.
    fn deepest(&self, path: &[u8]) -> Option<&[u16]> {
        let mut node = self;
        let mut found = Some(&self.routes);
        for segment in segments(path) {
            let Ok(index) = node.position(segment) else { break };
            node = &node.children[index].1;
            if !node.routes.is_empty() {
                found = Some(&node.routes);
            }
        }
        found.filter(|routes| !routes.is_empty()).map(Vec::as_slice)
    }
}

/// The segments of a path in normal form, without their parameters; none for `/`, `*` and a final slash.
pub(in crate::stage) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let path = path.strip_prefix(b"/").unwrap_or_default();
    path.split(|&byte| byte == b'/')
        .map(|segment| memchr::memchr(b';', segment).map_or(segment, |parameters| &segment[..parameters]))
        .filter(|segment| !segment.is_empty())
}

/// The host of an authority: without port, and without the dot that ends a fully qualified name.
fn host_of(authority: &[u8]) -> &[u8] {
    let host = match authority {
        [b'[', ..] => memchr::memchr(b']', authority).map_or(authority, |end| &authority[..=end]),
        _ => memchr::memchr(b':', authority).map_or(authority, |colon| &authority[..colon]),
    };
    host.strip_suffix(b".").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::{fixture::route, route::Methods};

    fn table(routes: &[(&str, Option<&str>, &[&str])]) -> RouteTable {
        let routes = routes.iter().enumerate().map(|(index, (path, host, methods))| {
            let mut route = route(path, u16::try_from(index).unwrap());
            route.host = host.map(Into::into);
            if !methods.is_empty() {
                route.methods = Methods::These(methods.iter().map(|&method| method.into()).collect());
            }
            route
        });
        RouteTable::new(routes.collect())
    }

    fn find(table: &RouteTable, host: &str, path: &str) -> Option<u16> {
        table.find(Some(host.as_bytes()), path.as_bytes(), "GET").ok().map(|route| route.index)
    }

    #[test]
    fn the_longest_prefix_wins_on_segment_boundaries() {
        let table = table(&[("/api", None, &[]), ("/api/v1/payment", None, &[]), ("/api/v1", None, &[])]);
        assert_eq!(find(&table, "h", "/api/v1/payment"), Some(1));
        assert_eq!(find(&table, "h", "/api/v1/payment/7/lines"), Some(1));
        assert_eq!(find(&table, "h", "/api/v1/payment/"), Some(1));
        assert_eq!(find(&table, "h", "/api/v1/payments"), Some(2));
        assert_eq!(find(&table, "h", "/api/v2"), Some(0));
        assert_eq!(find(&table, "h", "/apis"), None);
        assert_eq!(find(&table, "h", "/"), None);
        assert_eq!(find(&table, "h", "*"), None);
    }

    #[test]
    fn path_parameters_do_not_hide_a_route() {
        let table = table(&[("/", None, &[]), ("/api/payment", None, &[])]);
        assert_eq!(find(&table, "h", "/api;x=1/payment;y"), Some(1));
        assert_eq!(find(&table, "h", "/api/payment;/7"), Some(1));
        assert_eq!(find(&table, "h", "/other"), Some(0));
    }

    #[test]
    fn a_host_goes_before_any_host() {
        let table =
            table(&[("/a/b", None, &[]), ("/a", Some("pay.example"), &[]), ("/", Some("[::1]"), &[])]);
        assert_eq!(find(&table, "pay.example", "/a/b"), Some(1));
        assert_eq!(find(&table, "PAY.example.:8080", "/a"), Some(1));
        assert_eq!(find(&table, "other", "/a/b"), Some(0));
        assert_eq!(find(&table, "pay.example", "/x"), None);
        assert_eq!(find(&table, "[::1]:80", "/x"), Some(2));
        assert!(table.find(None, b"/a/b", "GET").is_ok());
    }

    #[test]
    fn methods_choose_among_routes_of_one_path() {
        let table = table(&[("/a", None, &["GET"]), ("/a", None, &["POST"])]);
        let with = |method| table.find(None, b"/a", method).map(|route| route.index);
        assert_eq!((with("GET"), with("HEAD"), with("POST")), (Ok(0), Ok(0), Ok(1)));
        let refusal = with("DELETE").unwrap_err();
        assert_eq!(refusal.code, Code::MethodNotAllowed);
        assert_eq!(refusal.allow.as_deref(), Some("GET, HEAD, POST"));
    }

    proptest! {
        /// The tree agrees with the obvious: try every route, keep the longest that matches.
        #[test]
        fn the_tree_agrees_with_a_linear_search(
            paths in prop::collection::btree_set("(/[ab]{1,2}){1,3}", 1..8),
            path in "(/[ab]{1,2}){1,4}",
        ) {
            let paths: Vec<String> = paths.into_iter().collect();
            let routes: Vec<(&str, Option<&str>, &[&str])> =
                paths.iter().map(|path| (path.as_str(), None, &[][..])).collect();
            let expected = paths
                .iter()
                .enumerate()
                .filter(|(_, prefix)| path == **prefix || path.starts_with(&format!("{prefix}/")))
                .max_by_key(|(_, prefix)| prefix.len())
                .map(|(index, _)| u16::try_from(index).unwrap());
            prop_assert_eq!(find(&table(&routes), "h", &path), expected);
        }
    }
}
