//! What cannot be measured is said, with what to do, and nothing is reported.

use std::{fs, net::SocketAddr};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::rig::{Upstream, loadtest};

/// A command that must end with 2, and what its message must hold.
#[track_caller]
fn refused(args: &[&str], parts: &[&str]) {
    let ended = loadtest(args).expect_code(2);
    assert_eq!(ended.out, "", "a report of nothing");
    for part in parts {
        assert!(ended.err.contains(part), "{args:?}: no {part:?} in {:?}", ended.err);
    }
}

#[test]
fn a_target_that_refuses() {
    // Bound and not listening: nobody else is given the port meanwhile.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = bound.local_addr().unwrap().as_socket().unwrap().to_string();
    let url = format!("http://{address}/");
    for command in [
        &["run", "--closed", "--target"][..],
        &["find", "--slo", "p99<1ms", "--target"],
        &["limits", "--quota", "1/second", "--target"],
    ] {
        let mut args = command.to_vec();
        args.push(&url);
        refused(&args, &["cannot connect", &address, "refused"]);
    }
    refused(&["ab", "--a", &url, "--b", &url], &["cannot connect", &address]);
    refused(&["run", "--closed", "--target", "https://127.0.0.1/"], &["TLS"]);
    refused(&["run", "--closed", "--target", "127.0.0.1:80"], &["http://HOST:PORT/PATH"]);
}

#[test]
fn files_that_are_missing_or_wrong() {
    let upstream = Upstream::new(&[]);
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let with = |option: &str, value: &str, parts: &[&str]| {
        refused(&["run", "--target", &upstream.url, "-r", "10", option, value], parts);
    };
    with("--secret-file", "/nowhere/secret.key", &["/nowhere/secret.key", "No such file"]);
    with("--secret-file", &file("empty.key", "\n"), &["empty.key", "is empty"]);
    with("--mix", "/nowhere/mix.toml", &["/nowhere/mix.toml"]);
    with("--mix", &file("a.toml", "[[route]]\npath = \"/\"\nwieght = 2\n"), &["a.toml:3", "wieght"]);
    with(
        "--mix",
        &file("b.toml", "[[route]]\npath = \"/\"\n\n[[route]]\npath = \"x\"\n"),
        &["b.toml:5", "path"],
    );
    with("--mix", &file("c.toml", "[[route]]\npath = \"/{{uid}}\"\n"), &["c.toml:2", "uid"]);
    with("--mix", &file("d.toml", ""), &["d.toml", "[[route]]"]);
    with("--body", "/nowhere/body", &["/nowhere/body"]);
    with("--header", "no colon", &["Name: value"]);
    with("--pid", "4194304", &["4194304", "no such process"]);
}

#[test]
fn options_that_make_no_sense() {
    let target = "--target=http://127.0.0.1:1/";
    refused(&["run", target], &["--rate"]);
    refused(&["run", target, "--closed", "-r", "5"], &["cannot be used with"]);
    refused(&["run", target, "-r", "0"], &["0 requests per second"]);
    refused(&["run", target, "-r", "1e9", "-t", "1"], &["1000000000 requests per second", "at most"]);
    refused(&["run", target, "-r", "5", "-c", "0"], &["--connections"]);
    refused(&["find", target, "--slo", "fast"], &["p99<2ms"]);
    refused(&["find", target, "--slo", "errors<0"], &["more than nothing"]);
    refused(&["limits", target, "--quota", "100/fortnight"], &["100/second"]);
    refused(&["limits", target, "--quota", "9/second", "--over", "1"], &["prove nothing"]);
    refused(&["ab", "--a=http://127.0.0.1:1/", "--b=http://127.0.0.1:1/", "--pairs", "2"], &["--pairs"]);
    refused(&["upstream", "--listen", "nonsense"], &["nonsense"]);
    refused(&["nonsense"], &["nonsense"]);
}
