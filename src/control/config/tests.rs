//! Configurations: the good one, and every kind of mistake with its place.

use super::*;
use crate::control::discovery::Addresses;

const GOOD: &str = r#"
[listen]
address = ["127.0.0.1:0"]
admin = "127.0.0.1:0"

[[jwt]]
name = "partners"
keys = [{ kid = "a", alg = "HS256", secret_env = "KEY32" }]

[[cluster]]
name = "payments"
endpoints = [{ address = "127.0.0.1:9001", weight = 2 }, { address = "localhost:9002" }]

[[route]]
name = "pay"
path = "/api/v1/payment"
methods = ["GET", "POST"]
jwt = "partners"
scopes = ["payments:write"]
limit = [{ by = "consumer", quota = "100/second;1000/minute" }, { by = "header:X-Key", quota = "1/day" }]
cluster = "payments"

[log]
access = "off"
"#;

fn environment(variable: &str) -> Option<Vec<u8>> {
    match variable {
        "KEY32" => Some(vec![b'k'; 32]),
        "KEY31" => Some(vec![b'k'; 31]),
        _ => None,
    }
}

/// The mistakes of `text`, as `line: key: message`.
fn mistakes(text: &str) -> Vec<String> {
    match parse(Path::new("/nowhere/t.toml"), text, &environment) {
        Ok(_) => Vec::new(),
        Err(issues) => issues
            .sorted()
            .iter()
            .map(|issue| format!("{}: {}: {}", issue.line, issue.key, issue.message))
            .collect(),
    }
}

/// The one mistake `GOOD` has after `from` was replaced by `to`.
fn mistake(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let found = mistakes(&GOOD.replacen(from, to, 1));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap_or_default()
}

#[test]
fn a_good_file_is_understood() {
    let plan = parse(Path::new("/etc/t.toml"), GOOD, &environment).unwrap();
    assert_eq!(plan.routes[0].limits.len(), 2);
    assert_eq!(plan.clusters[0].endpoints[0].weight, 2);
    assert_eq!(plan.bounds.head_bytes_max, 16 * 1024);
    assert_eq!(plan.timeouts.idle_ms, 60_000);
    assert_eq!(plan.key_sets[0].require, ["exp", "sub"]);
    assert!(!view::view(&plan).to_string().contains("kkkk"));
    let snapshot = compile::compile(plan, &Addresses::default(), 2, None).unwrap();
    // The name has no address: nobody has looked it up.
    assert_eq!(snapshot.slots, 1);
}

#[test]
fn the_defaults_are_those_of_the_table() {
    for row in defaults::DEFAULTS {
        assert!(!defaults::of(row.key).is_empty());
    }
    assert_eq!(mistakes(GOOD), Vec::<String>::new());
}

#[test]
fn each_mistake_names_its_line_and_key_and_what_would_be_right() {
    for (from, to, expected) in [
        ("[listen]", "[listn]", "2: listn: unknown key; did you mean \"listen\"?"),
        (
            "address = [\"127.0.0.1:0\"]",
            "adress = []",
            "3: listen.adress: unknown key; did you mean \"address\"?",
        ),
        (
            "\"127.0.0.1:0\"]",
            "\"localhost\"]",
            "3: listen.address[0]: \"localhost\" is not an IP address and port",
        ),
        (
            "admin = \"127.0.0.1:0\"",
            "admin = \"0.0.0.0:1\"",
            "4: listen.admin: others can reach this address: set listen.admin_token_file",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nretry = { on = [\"503\", \"stail\"] }",
            "22: route[0].retry.on[1]: \"stail\" is not one of \"unreachable\", \"stale\"",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nretry = { on = [\"503\", \"503\"] }",
            "22: route[0].retry.on[1]: \"503\" stands on line 22 already",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nretry = { attempts = 6 }",
            "22: route[0].retry.attempts: \"6\" is not a number from 1 to 5",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nhedge = { after = \"50ms\" }\nretry = { attempts = 1 }",
            "22: route[0].hedge: it is a second attempt, and retry.attempts allows one",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nhedge = {}",
            "22: route[0].hedge.after: is missing",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\ntimeout = \"0s\"",
            "22: route[0].timeout: \"0s\" is out of range",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nsplit = [{ cluster = \"payment\", share = \"5%\" }]",
            "22: route[0].split[0].cluster: no cluster is named \"payment\"; did you mean \"payments\"?",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nsplit = [{ cluster = \"payments\", share = \"5%\" }]",
            "22: route[0].split[0].cluster: the cluster stands on line 21 too; it gets what is left",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nmirror = { cluster = \"payments\", share = \"0%\" }",
            "22: route[0].mirror.share: \"0%\" is not a share from \"0.01%\"",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"payments\"\nby_header = [{ name = \"X Y\", value = \"a\", cluster = \"payments\" }]",
            "22: route[0].by_header[0].name: \"X Y\" is not the name of a header",
        ),
        (
            "jwt = \"partners\"",
            "jwt = \"partner\"",
            "18: route[0].jwt: no jwt is named \"partner\"; did you mean \"partners\"?",
        ),
        (
            "cluster = \"payments\"",
            "cluster = \"x\"",
            "21: route[0].cluster: no cluster is named \"x\"; there are: payments",
        ),
        ("cluster = \"payments\"", "", "14: route[0].cluster: is missing"),
        ("KEY32", "KEY31", "8: jwt[0].keys[0].secret_env: the secret has 31 bytes; HS256 needs at least 32"),
        ("KEY32", "NOPE", "8: jwt[0].keys[0].secret_env: the environment has no variable NOPE"),
        (
            "secret_env = \"KEY32\"",
            "secret_file = \"no.key\"",
            "8: jwt[0].keys[0].secret_file: /nowhere/no.key cannot be read",
        ),
        (", secret_env = \"KEY32\"", "", "8: jwt[0].keys[0]: the key itself is missing"),
        ("HS256", "RS999", "8: jwt[0].keys[0].alg: \"RS999\" is not one of \"HS256\", \"HS384\", \"HS512\""),
        (
            "100/second;",
            "0/second;",
            "20: route[0].limit[0].quota: \"0/second\": a quota of zero admits nothing",
        ),
        ("100/second;", "100/fortnight;", "20: route[0].limit[0].quota: \"100/fortnight\": the unit is"),
        ("by = \"consumer\"", "by = \"user\"", "20: route[0].limit[0].by: \"user\" is not one of"),
        ("\"/api/v1/payment\"", "\"api\"", "16: route[0].path: \"api\" is not a path"),
        ("\"/api/v1/payment\"", "\"/a//b\"", "16: route[0].path: \"/a//b\" is not a path"),
        ("\"/api/v1/payment\"", "\"/%70ay\"", "16: route[0].path: \"/%70ay\" is matched as \"/pay\""),
        ("\"GET\", \"POST\"", "\"get\"", "17: route[0].methods[0]: \"get\" is not a method"),
        (
            "weight = 2",
            "weight = 0",
            "12: cluster[0].endpoints[0].weight: \"0\" is not a number from 1 to 65535",
        ),
        (
            "\"localhost:9002\"",
            "\"127.0.0.1:9001\"",
            "12: cluster[0].endpoints[1].address: the endpoint stands on line 12",
        ),
        (
            "\"localhost:9002\"",
            "\"localhost\"",
            "12: cluster[0].endpoints[1].address: \"localhost\" is not a host and port",
        ),
        (
            "access = \"off\"",
            "access = \"x/y.log\"",
            "24: log.access: the directory of /nowhere/x/y.log does not exist",
        ),
        (
            "access = \"off\"",
            "access = \"off\"\nring = true",
            "25: log.ring: a size such as \"16KiB\" is wanted here, not a boolean",
        ),
        (
            "[log]",
            "[timeouts]\nhead = \"5 parsecs\"\n[log]",
            "24: timeouts.head: \"5 parsecs\" is not a duration",
        ),
        (
            "[log]",
            "[timeouts]\nhead = \"9h\"\n[log]",
            "24: timeouts.head: \"9h\" is out of range; 1ms to 1h is possible",
        ),
        (
            "[log]",
            "[bounds]\nhead_bytes_max = \"16 bananas\"\n[log]",
            "24: bounds.head_bytes_max: \"16 bananas\" is not a size",
        ),
        ("[log]", "[shards]\ncpus = \"x\"\n[log]", "24: shards.cpus: \"x\" is neither"),
        ("[log]", "[shards]\ndriver = \"kqueue\"\n[log]", "24: shards.driver: \"kqueue\" is not one of"),
        ("[log]", "[shards]\ncount = 0\n[log]", "24: shards.count: \"0\" is neither"),
    ] {
        let found = mistake(from, to);
        assert!(found.starts_with(expected), "{from} -> {to}\n  found    {found}\n  expected {expected}");
    }
}

#[test]
fn all_mistakes_come_in_one_run() {
    let text = GOOD
        .replace("name = \"pay\"", "name = \"pay\"\nnonsense = 1")
        .replace("KEY32", "KEY31")
        .replace("jwt = \"partners\"", "jwt = \"nobody\"")
        .replace("100/second", "100/week");
    let found = mistakes(&text);
    assert_eq!(found.len(), 4, "{found:#?}");
    let shown = parse(Path::new("/nowhere/t.toml"), &text, &environment).unwrap_err().to_string();
    assert!(shown.lines().all(|line| line.starts_with("/nowhere/t.toml:")), "{shown}");
}

#[test]
fn what_is_not_toml_is_said_with_its_line() {
    let found = mistakes("[listen\naddress = [\n");
    assert!(found.iter().any(|mistake| mistake.starts_with("1: : not TOML: ")), "{found:#?}");
    assert!(found.iter().any(|mistake| mistake.starts_with("2: : not TOML: ")), "{found:#?}");
    let found = mistakes("[log]\naccess = \"off\"");
    assert_eq!(found.len(), 2, "neither route nor cluster: {found:#?}");
}

#[test]
fn routes_may_share_a_path_only_with_other_methods() {
    let second = |path: &str, methods: &str| {
        format!(
            "{GOOD}\n[[route]]\nname = \"second\"\npath = \"{path}\"\nmethods = [{methods}]\ncluster = \"payments\"\n"
        )
    };
    assert_eq!(mistakes(&second("/api/v1/payment", "\"DELETE\"")), Vec::<String>::new());
    let found = mistakes(&second("/api/v1/payment/", "\"DELETE\", \"POST\""));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("route \"pay\" on line 16 already has this path"), "{found:?}");
    let same_name = second("/other", "\"GET\"").replace("\"second\"", "\"pay\"");
    assert!(mistakes(&same_name)[0].contains("another route is named \"pay\", on line 15"));
}

#[test]
fn limits_and_scopes_need_a_token() {
    let without = GOOD.replace("jwt = \"partners\"\n", "");
    let found = mistakes(&without);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|mistake| mistake.contains("name the jwt this route accepts")));
}

#[test]
fn a_secret_loses_one_newline() {
    let directory = std::env::temp_dir().join(format!("tollgate-secret-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let text = GOOD.replace("secret_env = \"KEY32\"", "secret_file = \"k\"");
    for (secret, good) in
        [("k".repeat(32) + "\n", true), ("k".repeat(31) + "\n", false), ("k".repeat(30) + "\r\n", false)]
    {
        std::fs::write(directory.join("k"), secret).unwrap();
        assert_eq!(parse(&directory.join("t.toml"), &text, &environment).is_ok(), good);
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_demo_is_a_good_file() {
    let text = include_str!("../../demo.toml");
    let demo = |variable: &str| (variable == "TOLLGATE_DEMO_KEY").then(|| vec![b'k'; 40]);
    assert!(parse(Path::new("demo.toml"), text, &demo).is_ok());
}

#[test]
fn a_template_with_an_unknown_field_is_refused_by_its_name() {
    let found = mistake("access = \"off\"", "access = \"off\"\nformat = \"{status} {pth}\"");
    assert!(found.ends_with("log.format: there is no field {pth}; did you mean {path}?"), "{found}");
}

#[test]
fn endpoints_and_name_servers_have_their_mistakes() {
    let nowhere = "endpoints_file = \"/nowhere/payments.endpoints\"\n[[route]]\nname = \"pay\"";
    for (from, to, expected) in [
        ("[[route]]\nname = \"pay\"", nowhere, "/nowhere/payments.endpoints: cannot be read"),
        (
            "{ address = \"127.0.0.1:9001\", weight = 2 }, { address = \"localhost:9002\" }",
            "",
            "cluster[0].endpoints: at least one endpoint is needed, here or in a file",
        ),
        ("[log]", "[resolve]\nservers = [\"dns.internal\"]\n[log]", "\"dns.internal\" is not an IP address"),
        ("[log]", "[resolve]\nservers = []\n[log]", "resolve.servers: one to 8 servers"),
        ("[log]", "[resolve]\nfamily = \"ipv5\"\n[log]", "resolve.family: \"ipv5\" is not one of"),
        ("[log]", "[resolve]\nttl_min = \"10m\"\n[log]", "resolve.ttl_min: is longer than resolve.ttl_max"),
    ] {
        let said = mistake(from, to);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn other_endpoints_are_another_snapshot_and_who_comes_back_is_the_same() {
    let plan = parse(Path::new("/etc/t.toml"), GOOD, &environment).unwrap();
    let clusters = plan.clusters.clone();
    let known = |ips: &[&str]| {
        Addresses::from([("localhost".to_owned(), ips.iter().map(|ip| ip.parse().unwrap()).collect())])
    };
    let first = compile::compile(plan, &known(&["10.0.0.1", "10.0.0.2"]), 2, None).unwrap();
    assert!(compile::relocate(&clusters, &known(&["10.0.0.1", "10.0.0.2"]), 2, &first).is_none());
    let load = &first.clusters[0].endpoints[2].load;
    assert!(load.enter(load.look()));
    let second = compile::relocate(&clusters, &known(&["10.0.0.1"]), 2, &first).unwrap();
    assert_eq!((second.generation, second.slots, second.clusters[0].endpoints.len()), (2, 3, 2));
    assert_eq!(second.departed.len(), 1);
    assert!(std::sync::Arc::ptr_eq(&first.routes, &second.routes), "shared");
    let third = compile::relocate(&clusters, &known(&["10.0.0.2", "10.0.0.3"]), 2, &second).unwrap();
    // Broken by a slot of another endpoint, whose connections it would be given, or a load that begins at nothing.
    let back = &third.clusters[0].endpoints[1];
    assert_eq!((back.slot, back.load.in_flight(), third.slots), (2, 1, 4));
    assert_eq!(third.departed[0].1.name, "10.0.0.1:9002".into());
    let many: Vec<String> = (0..2_000).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let crowd = compile::relocate(&clusters, &known(&many), 2, &third).unwrap();
    let alone = compile::relocate(&clusters, &known(&[]), 2, &crowd).unwrap();
    assert_eq!(alone.departed.len(), 1_024, "the bound");
}
