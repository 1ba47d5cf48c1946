//! Routing: which route a request meets is decided on the very path that its endpoint will see.

use crate::rig::{Answer, Client, Endpoint, Gateway, Setup, bearer, valid_token};

/// An endpoint that says its name and the target it was asked for.
fn named(name: &'static str) -> Endpoint {
    Endpoint::scripted(move |talk, seen| {
        talk.read_body(seen);
        let body = format!("{name} {}", seen.target());
        talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    })
}

fn ask(client: &mut Client, method: &str, target: &str, host: &str) -> Answer {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    match method {
        "HEAD" => client.answer_to_head(),
        _ => client.answer(),
    }
}

/// What a GET of `target` meets: an endpoint's words, or the code of a refusal.
fn get(gateway: &Gateway, target: &str) -> String {
    let answer = ask(&mut gateway.client(), "GET", target, "a");
    match answer.status {
        200 => answer.text(),
        _ => answer.code(),
    }
}

#[test]
fn the_longest_path_on_segment_boundaries_wins() {
    let (root, pay, refund) = (named("root"), named("pay"), named("refund"));
    let gateway = Setup::new()
        .cluster("root", &[root.address], "")
        .cluster("pay", &[pay.address], "")
        .cluster("refund", &[refund.address], "")
        .route("root", "/", "root", "")
        .route("pay", "/pay", "pay", "")
        .route("refund", "/pay/v1/refund", "refund", "")
        .start();
    for (target, expected) in [
        ("/", "root"),
        ("/x", "root"),
        ("/payments", "root"),
        ("/pa", "root"),
        ("/Pay", "root"),
        ("/x/pay", "root"),
        ("/pay", "pay"),
        ("/pay/", "pay"),
        ("/pay?x=/pay/v1/refund", "pay"),
        ("/pay/v1", "pay"),
        ("/pay/v1/refunds", "pay"),
        ("/pay/v1/refund", "refund"),
        ("/pay/v1/refund/7?a=b%2Fc", "refund"),
        ("/pay;x=1", "pay"),
        ("/pay;x=1/v1;y/refund;z=/pay", "refund"),
    ] {
        assert_eq!(get(&gateway, target), format!("{expected} {target}"));
    }
}

#[test]
fn a_host_goes_before_any_and_its_spelling_does_not_matter() {
    let (any, partner) = (named("any"), named("partner"));
    let gateway = Setup::new()
        .cluster("any", &[any.address], "")
        .cluster("partner", &[partner.address], "")
        .route("any", "/api", "any", "")
        .route("partner", "/", "partner", "host = \"partner.example\"")
        .start();
    let mut client = gateway.client();
    for (host, target, expected) in [
        ("partner.example", "/api", "partner /api"),
        ("Partner.EXAMPLE:8080", "/api", "partner /api"),
        ("partner.example.", "/api", "partner /api"),
        ("other.example", "/api", "any /api"),
        ("xpartner.example", "/api", "any /api"),
        ("partner.example", "http://partner.example/api", "partner /api"),
        ("other.example:1", "http://other.example:1/api?q", "any /api?q"),
    ] {
        let answer = ask(&mut client, "GET", target, host);
        assert_eq!(answer.text(), expected, "{host} {target}");
    }
    assert_eq!(ask(&mut client, "GET", "/elsewhere", "other.example").code(), "route_not_found");
    // Two hosts are none: some reader would believe the other one.
    assert_eq!(
        ask(&mut client, "GET", "http://partner.example/api", "other.example").code(),
        "head_malformed"
    );
    assert_eq!(partner.seen(4).len(), 4);
}

#[test]
fn methods_are_the_routes() {
    let (read, write) = (named("read"), named("write"));
    let gateway = Setup::new()
        .cluster("read", &[read.address], "")
        .cluster("write", &[write.address], "")
        .route("read", "/pay", "read", "methods = [\"GET\"]")
        .route("write", "/pay", "write", "methods = [\"POST\", \"PUT\"]")
        .route("open", "/open", "read", "")
        .start();
    let mut client = gateway.client();
    assert_eq!(ask(&mut client, "GET", "/pay", "a").text(), "read /pay");
    assert_eq!(ask(&mut client, "HEAD", "/pay", "a").status, 200);
    assert_eq!(ask(&mut client, "POST", "/pay", "a").text(), "write /pay");
    for method in ["DELETE", "get", "OPTIONS", "PATCH", "PROPFIND"] {
        let answer = ask(&mut client, method, "/pay", "a");
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"), "{method}");
        let mut allowed: Vec<&str> = answer.field("allow").unwrap().split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["GET", "HEAD", "POST", "PUT"]);
    }
    assert_eq!(ask(&mut client, "PROPFIND", "/open", "a").text(), "read /open");
    assert_eq!(ask(&mut client, "TRACE", "/open", "a").code(), "method_not_allowed");
    assert_eq!(ask(&mut client, "GET", "/none", "a").code(), "route_not_found");
    let refused = ask(&mut client, "CONNECT", "a:443", "a");
    assert!(matches!(refused.status, 400 | 501), "{}", refused.head);
}

/// A public `/` and a protected `/admin` whose endpoint must never be reached without a token.
fn guarded() -> (Endpoint, Endpoint, Gateway) {
    let (public, admin) = (named("public"), named("admin"));
    let gateway = Setup::new()
        .keys("")
        .cluster("public", &[public.address], "")
        .cluster("admin", &[admin.address], "")
        .route("public", "/", "public", "")
        .route("admin", "/admin", "admin", "jwt = \"partners\"")
        .start();
    (public, admin, gateway)
}

#[test]
fn no_other_spelling_reaches_a_protected_path() {
    let (public, admin, gateway) = guarded();
    for target in [
        "//admin",
        "/x//admin",
        "/./admin",
        "/x/../admin",
        "/x/..",
        "/..",
        "/.",
        "/x/.;a/admin",
        "/x/..;/admin",
        "/%2e/admin",
        "/x/%2E%2e/admin",
        "/x/.%2e/admin",
        "/%2fadmin",
        "/x%2F..%2Fadmin",
        "/x%5c..%5cadmin",
        "/x\\..\\admin",
        "/%00/admin",
        "/admin%0d%0aX:y",
        "/admin%7f",
        "/admin%",
        "/admin%4",
        "/admin%zz",
        "/admin#x",
        "/a|b",
        "/a\"b",
        "/a?x#y",
        "admin",
        "ftp://a/admin",
        "http:///admin",
        "http://u@a/admin",
        "*",
        "/\u{e9}",
    ] {
        assert_eq!(get(&gateway, target), "head_malformed", "{target}");
    }
    // These are the same path in other letters: they meet the same guard.
    for target in [
        "/%61dmin",
        "/adm%69n",
        "/%61%64%6D%69%6e/x",
        "/admin;x",
        "/admin;x=1/y",
        "/admin/",
        "http://a/admin",
    ] {
        assert_eq!(get(&gateway, target), "token_missing", "{target}");
    }
    assert_eq!((public.connections(), admin.connections()), (0, 0));
}

#[test]
fn what_was_decided_on_is_what_is_forwarded() {
    let (_public, _admin, gateway) = guarded();
    let mut client = gateway.client();
    for (target, forwarded) in [
        ("/%61dmin/%7Euser", "/admin/~user"),
        ("/admin/caf%c3%a9", "/admin/caf%C3%A9"),
        ("/admin/a%20b%25c", "/admin/a%20b%25c"),
        ("/admin/?q=%2e%2e%2f", "/admin/?q=%2e%2e%2f"),
        ("/admin/.well-known/...", "/admin/.well-known/..."),
        ("/admin/a:b@c,d", "/admin/a:b@c,d"),
        ("/admin?", "/admin?"),
    ] {
        let answer = client.get(target, &bearer(&valid_token("acme")));
        assert_eq!(answer.text(), format!("admin {forwarded}"));
    }
    assert_eq!(get(&gateway, "http://a"), "public /");
    assert_eq!(get(&gateway, "http://a?x"), "public /?x");
    assert_eq!(ask(&mut client, "OPTIONS", "*", "a").text(), "public *");
}
