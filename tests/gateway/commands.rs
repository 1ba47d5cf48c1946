//! The commands: help and exit codes, ports, drivers, limits of the system, minted tokens, the demo.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    config::{GOOD, check, code, said, written},
    rig::{Client, Directory, Endpoint, Gateway, SECRET, Setup, bearer, tollgate, until},
};

#[test]
fn every_command_has_help_and_wrong_usage_is_64() {
    let directory = Directory::new();
    let run = |arguments: &[&str]| tollgate(directory.path(), arguments);
    for (command, words) in [
        (None, &["run", "demo", "check", "token", "64", "69", "70", "78", "--version"][..]),
        (Some("run"), &["--config", "SIGTERM", "SIGUSR1"]),
        (Some("demo"), &["token", "quota"]),
        (Some("check"), &["<FILE>", "78"]),
        (Some("doctor"), &["--json", "--live", "--seconds", "--config", "--root", "78"]),
        (Some("topology"), &["--json", "--format", "--cpus", "--reserve", "--config", "--root"]),
        (Some("key"), &["--id", "X-Api-Key", "SHA-256"]),
        (Some("explain"), &["--config", "--token", "--api-key", "--client-ip", "--header", "METHOD", "PATH"]),
        (Some("token"), &["--config", "--jwt", "--sub", "--scope", "--ttl", "1h", "--kid"]),
    ] {
        let help = run(&[command.as_slice(), &["--help"]].concat());
        let text = String::from_utf8(help.stdout.clone()).unwrap();
        assert_eq!(code(&help), Some(0), "{command:?}");
        for word in words {
            assert!(text.contains(word), "{command:?} --help does not mention {word}:\n{text}");
        }
    }
    let version = run(&["--version"]);
    assert_eq!(code(&version), Some(0));
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("tollgate "));
    for wrong in [
        &["bogus"][..],
        &["--bogus"],
        &["run"],
        &["run", "--config"],
        &["run", "t.toml"],
        &["check"],
        &["check", "a", "b"],
        &["demo", "more"],
        &["key", "--id", ""],
        &["explain", "--config", "t.toml", "GET"],
        &["token", "--config", "t.toml", "--jwt", "partners"],
        &["token", "--config", "t.toml", "--jwt", "partners", "--sub", "a", "--ttl", "soon"],
    ] {
        let output = run(wrong);
        assert_eq!(code(&output), Some(64), "{wrong:?}: {}", said(&output));
        assert!(!output.stderr.is_empty(), "{wrong:?} says nothing");
    }
}

/// A file in which everything is wrong that can be wrong at the same time, and what must be said of it:
#[test]
fn a_good_file_is_good_even_while_its_ports_are_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "[listen]\naddress = [\"{address}\"]\nadmin = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n{GOOD}"
    );
    let output = check(&text);
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    let run = tollgate(written(text.as_bytes()).path(), &["run", "--config", "t.toml"]);
    assert_eq!(code(&run), Some(69));
    assert!(said(&run).contains(&address.to_string()), "{}", said(&run));
    let swapped = text.replace("address = [\"", "admin = \"").replacen(
        "\"]\nadmin = \"127.0.0.1:0\"",
        "\"\naddress = [\"127.0.0.1:0\"]",
        1,
    );
    let run = tollgate(written(swapped.as_bytes()).path(), &["run", "--config", "t.toml"]);
    assert_eq!(code(&run), Some(69), "{}", said(&run));
    assert!(said(&run).contains(&address.to_string()), "{}", said(&run));
}

#[test]
fn two_gateways_do_not_share_a_port() {
    let endpoint = Endpoint::answering("ok");
    let first = Setup::proxy(endpoint.address).shards(2).start();
    for (address, admin) in
        [(first.address.to_string(), "127.0.0.1:0".into()), ("127.0.0.1:0".into(), first.admin.to_string())]
    {
        let second = Setup::proxy(endpoint.address)
            .set("listen", &format!("address = [\"{address}\"]"))
            .set("listen", &format!("admin = \"{admin}\""))
            .write();
        let output = tollgate(second.path(), &["run", "--config", "tollgate.toml"]);
        assert_eq!(code(&output), Some(69), "{}", said(&output));
        let taken = if address.ends_with(":0") { admin } else { address };
        assert!(said(&output).contains(&taken), "{}", said(&output));
    }
    assert_eq!(first.client().get("/", "").status, 200);
}

#[test]
fn both_drivers_serve_and_are_named() {
    let endpoint = Endpoint::answering("ok");
    for driver in ["epoll", "auto"] {
        let gateway = Setup::proxy(endpoint.address).driver(driver).shards(2).start();
        for _ in 0..8 {
            assert_eq!(gateway.client().get("/", "").status, 200);
        }
        let (_, metrics) = gateway.admin_get("/metrics");
        for shard in 0..2 {
            let sample = metrics
                .lines()
                .find(|line| {
                    line.starts_with("tollgate_shard_driver{") && line.contains(&format!("shard=\"{shard}\""))
                })
                .unwrap_or_else(|| panic!("no driver of shard {shard}:\n{metrics}"));
            let rung = sample.split("driver=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(driver == "auto" || rung == "epoll", "{sample}");
            let logged = format!("shard {shard} on any CPU with {rung}");
            assert!(
                gateway.said().iter().any(|line| line.contains(&logged)),
                "{logged}: {:#?}",
                gateway.said()
            );
        }
        gateway.stop();
    }
}

#[test]
fn a_low_file_limit_is_said_with_the_number() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address)
        .shell("ulimit -n 300 && exec \"$TOLLGATE\" run --config \"$CONFIG\"")
        .start();
    let warned = gateway.said().into_iter().find(|line| line.contains("limit on open files is 300"));
    let warned = warned.unwrap_or_else(|| panic!("{:#?}", gateway.said()));
    assert!(warned.contains("bounds.connections = 2000"), "{warned}");
    assert_eq!(gateway.client().get("/", "").status, 200);
    gateway.stop();
    let unlimited = Setup::proxy(endpoint.address).set("bounds", "connections = 10").start();
    assert!(!unlimited.said().iter().any(|line| line.contains("limit on open files")));
}

#[test]
fn paths_are_relative_to_the_configuration_file() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "jwt = \"partners\"")
        .shell("cd / && exec \"$TOLLGATE\" run --config \"$CONFIG\"")
        .start();
    let token = minted(&gateway, &["--sub", "acme"]);
    assert_eq!(gateway.client().get("/", &bearer(&token)).status, 200);
    assert_eq!(gateway.log(1)[0]["consumer"], "acme");
    gateway.stop();
}

/// What `tollgate token` mints for the gateway's `partners`.
fn minted(gateway: &Gateway, more: &[&str]) -> String {
    let arguments = [&["token", "--config", "tollgate.toml", "--jwt", "partners"], more].concat();
    let output = tollgate(gateway.directory(), &arguments);
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn minted_tokens_are_accepted() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .text(
            "[[jwt]]\nname = \"partners\"\nissuer = \"https://auth.example\"\naudience = [\"payments\", \"x\"]\n\
             consumer_claim = \"client_id\"\nkeys = [{ kid = \"k1\", alg = \"HS256\", secret_file = \"k1.key\" },\n\
             { kid = \"k2\", alg = \"HS512\", secret_file = \"k2.key\" }]\n",
        )
        .file("k2.key", format!("{SECRET}\n").as_bytes())
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "jwt = \"partners\"\nscopes = [\"payments:write\"]")
        .start();
    let scope = ["--sub", "acme", "--scope", "a payments:write"];
    for more in [&scope[..], &[&scope[..], &["--kid", "k2", "--ttl", "10s"]].concat()] {
        let token = minted(&gateway, more);
        assert_eq!(gateway.client().get("/", &bearer(&token)).status, 200, "{more:?}");
    }
    assert_eq!(gateway.client().get("/", &bearer(&minted(&gateway, &["--sub", "acme"]))).status, 403);
    assert!(endpoint.seen(2).iter().all(|seen| seen.field("x-consumer-id") == Some("acme")));
    let base = ["token", "--config", "tollgate.toml"];
    for (more, expected) in [
        (&["--jwt", "partner", "--sub", "a"][..], "no jwt is named \"partner\""),
        (&["--jwt", "partners", "--sub", "a", "--kid", "k3"], "k1, k2"),
        (&["--jwt", "partners", "--sub", ""], "--sub"),
        (&["--jwt", "partners", "--sub", "a\nb"], "--sub"),
    ] {
        let output = tollgate(gateway.directory(), &[&base[..], more].concat());
        assert_eq!(code(&output), Some(64), "{more:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{more:?}: {}", said(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_ipv6_listener_serves() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address)
        .set("listen", "address = [\"[::1]:0\", \"127.0.0.1:0\"]")
        .shards(2)
        .start();
    for _ in 0..4 {
        assert_eq!(gateway.client().get("/", "").status, 200);
    }
    assert_eq!(gateway.log(4)[0]["client_ip"], "::1");
    assert_eq!(endpoint.seen(4)[0].field("x-forwarded-for"), Some("::1"));
    gateway.stop();
}

/// The demo's ports are fixed, so they may be taken; both outcomes are checked.
#[test]
fn the_demo_does_what_it_prints_or_says_which_port_is_taken() {
    let directory = Directory::new();
    // Held by us or by somebody else: taken in any case.
    let taken = TcpListener::bind("127.0.0.1:9901");
    let refused = tollgate(directory.path(), &[]);
    assert_eq!(code(&refused), Some(69), "{}", said(&refused));
    assert!(said(&refused).contains("127.0.0.1:9901") || said(&refused).contains("127.0.0.1:8080"));
    drop(taken);

    let out = directory.path().join("out");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(directory.path().join("err")).unwrap())
        .spawn()
        .unwrap();
    let printed = || fs::read_to_string(&out).unwrap();
    let mut ended = None;
    until("the demo to serve or to give up", || {
        ended = demo.try_wait().unwrap();
        ended.is_some() || printed().contains("Ctrl-C ends it.")
    });
    if let Some(status) = ended {
        let said = fs::read_to_string(directory.path().join("err")).unwrap();
        assert_eq!(status.code(), Some(69), "{said}");
        assert!(said.contains("127.0.0.1:8080") || said.contains("127.0.0.1:9901"), "{said}");
        return;
    }
    let text = printed();
    let pid = demo.id().to_string();
    let checked = std::panic::catch_unwind(|| try_what_is_printed(&text));
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = demo.wait().unwrap();
    checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(status.code(), Some(0));
}

fn try_what_is_printed(text: &str) {
    let token = text.lines().find_map(|line| line.strip_prefix("TOKEN=")).unwrap();
    let address = "127.0.0.1:8080".parse().unwrap();
    let mut client = Client::connect(address);
    let paid = client.post("/api/v1/payment", &bearer(token), b"{}");
    assert_eq!((paid.status, paid.json()["consumer"].clone()), (200, Value::from("demo-shop")));
    let shell = |line: &str| {
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    if shell("curl --version").is_empty() {
        return;
    }
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("curl ") || line.starts_with("for ")).collect();
    assert_eq!(lines.len(), 3, "{text}");
    until("the first line to succeed, once the quota is whole", || {
        shell(lines[0]).starts_with("HTTP/1.1 200 ")
    });
    assert!(shell(lines[1]).starts_with("HTTP/1.1 401 "));
    until("the loop to meet the quota", || {
        let statuses = shell(lines[2]);
        assert!(statuses.lines().all(|line| line == "200" || line == "429"), "{statuses}");
        statuses.contains("429")
    });
}
