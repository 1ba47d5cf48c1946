//! The configuration: every mistake is found in one run, each with file, line, key and what would be right.

use std::{fs, os::unix::ffi::OsStringExt, path::Path, process::Output};

use crate::rig::{Directory, SECRET, tollgate, tollgate_with};

pub(super) fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What `check` says of `text` as `t.toml`, beside the files `k1.key` (good) and `short.key` (ten bytes).
pub(super) fn check(text: &str) -> Output {
    let directory = written(text.as_bytes());
    tollgate_with(directory.path(), &["check", "t.toml"], &[("TOLLGATE_TEST_SHORT", "short")])
}

pub(super) fn written(text: &[u8]) -> Directory {
    let directory = Directory::new();
    fs::write(directory.path().join("t.toml"), text).unwrap();
    fs::write(directory.path().join("k1.key"), SECRET).unwrap();
    fs::write(directory.path().join("short.key"), "0123456789").unwrap();
    directory
}

/// The least there can be.
pub(super) const GOOD: &str = "\
[[cluster]]\nname = \"main\"\nendpoints = [{ address = \"127.0.0.1:9001\" }]\n\
[[route]]\nname = \"all\"\npath = \"/\"\ncluster = \"main\"\n";

/// A file in which everything is wrong that can be wrong at the same time, and what must be said of it:
/// the line, the key, what is wrong and what would be right.
const ALL_WRONG: &str = r#"# line 1
[listen]
address = ["127.0.0.1:70000", 5]
admin = "127.0.0.1"
trusted_proxies = ["10.0.0.0/33"]
adress = 1

[shards]
count = -1
cpus = "3-1"
driver = "kqueue"

[bounds]
connections = "many"
head_bytes_max = "1B"
body_bytes_max = "-5MiB"

[timeouts]
head = "0s"
idle = 5
drain = "-1s"
body = "9 fortnights"

[[jwt]]
name = "partners"
leeway = "1500ms"
require = "exp"
keys = [
  { kid = "a", alg = "HS256", secret_file = "no.key", secret_env = "X" },
  { kid = "a", alg = "none", secret_env = "TOLLGATE_TEST_NOWHERE" },
  { kid = "c" },
  { kid = "d", alg = "HS256", secret_file = "short.key" },
  { kid = "e", alg = "HS512", secret_env = "TOLLGATE_TEST_SHORT" },
  { kid = "f", alg = "HS256", secret_file = "no.key" },
  { kid = "g", alg = "HS256", secret_file = "." },
]

[[jwt]]
name = "partners"

[[cluster]]
name = "payments"
balance = "magic"
connect_timeout = "2h"
endpoints = [{ address = "127.0.0.1" }, { adress = "127.0.0.1:1" }, { address = "[::1]:0", weight = 0 }]

[[cluster]]
name = "payments"
endpoints = []

[[route]]
name = "a"
path = "/a"
cluster = "payment"
limit = [{ by = "consumer", quota = "0/second" }, { by = "user", quota = "10/fortnight" }]

[[route]]
name = "a"
path = "/a"
jwt = "partner"
cluster = "payments"
methods = ["get"]
limits = []

[[route]]
path = "/b//c"
scopes = ["pay"]

[log]
access = "nowhere/at/all.log"
format = "xml"
ring = true
"#;

const ALL_WRONG_SAID: &[&str] = &[
    "3: listen.address[0]: \"127.0.0.1:70000\" is not an IP address and port; write for example",
    "3: listen.address[1]: a string is wanted",
    "4: listen.admin: \"127.0.0.1\" is not an IP address and port, nor a unix socket",
    "5: listen.trusted_proxies[0]: \"10.0.0.0/33\" is not a network; write for example",
    "6: listen.adress: unknown key; did you mean \"address\"?",
    "9: shards.count: \"-1\" is neither \"auto\" nor a number",
    "10: shards.cpus: \"3-1\"",
    "11: shards.driver: \"kqueue\" is not one of \"auto\", \"io-uring\", \"epoll\"",
    "14: bounds.connections: \"many\" is not a number from",
    "15: bounds.head_bytes_max: \"1B\" is out of range",
    "16: bounds.body_bytes_max: \"-5MiB\" is not a size; write for example",
    "19: timeouts.head: \"0s\" is out of range",
    "20: timeouts.idle: a string is wanted",
    "21: timeouts.drain: \"-1s\" is not a duration; write for example",
    "22: timeouts.body: \"9 fortnights\" is not a duration",
    "26: jwt[0].leeway: \"1500ms\" is not a whole number of seconds",
    "27: jwt[0].require: a list of strings is wanted",
    "29: jwt[0].keys[0].secret_env: the key is given already",
    "30: jwt[0].keys[1].kid: another key has the kid \"a\", on line 29",
    "30: jwt[0].keys[1].alg: \"none\" is not one of \"HS256\"",
    "30: jwt[0].keys[1].secret_env: the environment has no variable TOLLGATE_TEST_NOWHERE",
    "31: jwt[0].keys[2]: the key itself is missing; give secret_file, secret_env or public_key_file",
    "31: jwt[0].keys[2].alg: is missing",
    "32: jwt[0].keys[3].secret_file: the secret has 10 bytes; HS256 needs at least 32",
    "33: jwt[0].keys[4].secret_env: the secret has 5 bytes; HS512 needs at least 64",
    "34: jwt[0].keys[5].secret_file: no.key cannot be read: No such file",
    "35: jwt[0].keys[6].secret_file:",
    "39: jwt[1].name: another jwt is named \"partners\", on line 25",
    "38: jwt[1].keys: at least one key is needed",
    "43: cluster[0].balance: \"magic\" is not one of \"least-connections\"",
    "44: cluster[0].connect_timeout: \"2h\" is out of range",
    "45: cluster[0].endpoints[0].address: \"127.0.0.1\" is not a host and port",
    "45: cluster[0].endpoints[1].adress: unknown key; did you mean \"address\"?",
    "45: cluster[0].endpoints[1].address: is missing",
    "45: cluster[0].endpoints[2].address: \"[::1]:0\" is not a host and port",
    "45: cluster[0].endpoints[2].weight: \"0\" is not a number from 1 to",
    "48: cluster[1].name: another cluster is named \"payments\", on line 42",
    "47: cluster[1].endpoints: at least one endpoint is needed",
    "54: route[0].cluster: no cluster is named \"payment\"; did you mean \"payments\"?",
    "55: route[0].limit[0].by: the consumer comes from a token",
    "55: route[0].limit[0].quota: \"0/second\": a quota of zero",
    "55: route[0].limit[1].by: \"user\" is not one of",
    "55: route[0].limit[1].quota: \"10/fortnight\": the unit is",
    "58: route[1].name: another route is named \"a\", on line 52",
    "59: route[1].path: route \"a\" on line 53 already has this path",
    "60: route[1].jwt: no jwt is named \"partner\"; did you mean \"partners\"?",
    "62: route[1].methods[0]: \"get\" is not a method",
    "63: route[1].limits: unknown key; did you mean \"limit\"?",
    "65: route[2].name: is missing",
    "65: route[2].cluster: is missing",
    "66: route[2].path: \"/b//c\" is not a path",
    "67: route[2].scopes: scopes come from a token",
    "70: log.access: the directory of nowhere/at/all.log does not exist",
    "71: log.format: \"xml\" is not one of \"json\", \"combined\"",
    "72: log.ring: a size such as",
];

#[test]
fn one_run_of_check_finds_every_mistake() {
    let output = check(ALL_WRONG);
    assert_eq!(code(&output), Some(78));
    let found = said(&output);
    let missing: Vec<_> = ALL_WRONG_SAID
        .iter()
        .filter(|expected| !found.lines().any(|line| line.starts_with(&format!("t.toml:{expected}"))))
        .collect();
    assert!(missing.is_empty(), "not said: {missing:#?}\nsaid:\n{found}");
    let surplus: Vec<_> = found
        .lines()
        .filter(|line| !ALL_WRONG_SAID.iter().any(|expected| line.starts_with(&format!("t.toml:{expected}"))))
        .collect();
    assert!(surplus.is_empty(), "said beyond the mistakes there are: {surplus:#?}");
    let serving = tollgate(written(ALL_WRONG.as_bytes()).path(), &["run", "--config", "t.toml"]);
    assert_eq!(code(&serving), Some(78), "run refuses it as well");
}

#[test]
fn files_that_are_no_configuration_are_refused_with_their_line() {
    for (text, expected) in [
        ("", "t.toml:1: route: there is none"),
        ("", "t.toml:1: cluster: there is none"),
        ("[listen]\naddress = [\"127.0.0.1:0\"\n\n[log]\n", "t.toml:"),
        ("[log]\n[log]\n", "t.toml:2: not TOML: duplicate key"),
        ("[log]\naccess = \"off\n", "t.toml:2: not TOML: "),
        ("\u{0}", "t.toml:1: not TOML: "),
        ("route = 5\n[[cluster]]\nname = \"a\"\nendpoints = [{ address = \"h:1\" }]\n", "t.toml:1: route: "),
        ("log = \"off\"\n", "t.toml:1: log: a table is wanted"),
        (&format!("{GOOD}nonsense = 1\n"), "t.toml:8: route[0].nonsense: unknown key; known here: "),
    ] {
        let output = check(text);
        assert_eq!(code(&output), Some(78), "{text:?}");
        assert!(said(&output).lines().any(|line| line.starts_with(expected)), "{text:?}: {}", said(&output));
    }
    let not_text = [GOOD.as_bytes(), b"# caf\xe9\n"].concat();
    let output = tollgate(written(&not_text).path(), &["check", "t.toml"]);
    assert_eq!(code(&output), Some(78));
    assert!(said(&output).starts_with("t.toml:8: "), "{}", said(&output));
    assert!(said(&output).contains("UTF-8"), "{}", said(&output));
    let directory = Directory::new();
    for (name, expected) in
        [("gone.toml", "gone.toml: cannot be read: No such file"), (".", ".: cannot be read: ")]
    {
        let output = tollgate(directory.path(), &["check", name]);
        assert_eq!(code(&output), Some(78));
        assert!(said(&output).starts_with(expected), "{}", said(&output));
    }
}

#[test]
fn mistakes_between_valid_values_are_found() {
    for (text, expected) in [
        (
            format!("[listen]\naddress = [\"127.0.0.1:8080\", \"127.0.0.1:8080\"]\n{GOOD}"),
            "t.toml:2: listen.address[1]: ",
        ),
        (
            format!("[listen]\naddress = [\"127.0.0.1:8080\"]\nadmin = \"127.0.0.1:8080\"\n{GOOD}"),
            "t.toml:3: listen.admin: ",
        ),
        (format!("[listen]\nadmin = \"0.0.0.0:1\"\n{GOOD}"), "t.toml:2: listen.admin: "),
        (format!("[listen]\nadmin = \"[::]:1\"\n{GOOD}"), "t.toml:2: listen.admin: "),
        (format!("[listen]\naddress = []\n{GOOD}"), "t.toml:2: listen.address: at least one"),
        (
            format!("{GOOD}limit = [{{ by = \"ip\", quota = \"5/second;9/second\" }}]\n"),
            "t.toml:8: route[0].limit[0].quota: ",
        ),
        (
            format!("{GOOD}limit = [{{ by = \"header:\", quota = \"5/second\" }}]\n"),
            "t.toml:8: route[0].limit[0].by: ",
        ),
        (
            format!("{GOOD}limit = [{{ by = \"header:a b\", quota = \"5/second\" }}]\n"),
            "t.toml:8: route[0].limit[0].by: ",
        ),
        (
            format!(
                "{GOOD}[[route]]\nname = \"x\"\npath = \"/\"\nmethods = [\"HEAD\"]\ncluster = \"main\"\n"
            ),
            "t.toml:10: route[1].path: route \"all\" on line 6 already has this path",
        ),
        (format!("{GOOD}host = \"api.example:8080\"\n"), "t.toml:8: route[0].host: "),
        (format!("{GOOD}methods = [\"CONNECT\"]\n"), "t.toml:8: route[0].methods[0]: "),
        (
            GOOD.replacen("\n[[route]]", "\nbalance = \"hash\"\n[[route]]", 1),
            "t.toml:4: cluster[0].balance: needs hash_by",
        ),
        (
            GOOD.replacen("\n[[route]]", "\nbalance = \"random\"\nhash_by = \"ip\"\n[[route]]", 1),
            "t.toml:5: cluster[0].hash_by: is only for balance = \"hash\"",
        ),
        (
            GOOD.replacen("\n[[route]]", "\nbalance = \"hash\"\nhash_by = \"header:\"\n[[route]]", 1),
            "t.toml:5: cluster[0].hash_by: \"header:\" is not",
        ),
        (
            GOOD.replacen("\n[[route]]", "\nmax_in_flight = 0\n[[route]]", 1),
            "t.toml:4: cluster[0].max_in_flight: ",
        ),
    ] {
        let output = check(&text);
        assert_eq!(code(&output), Some(78), "{text}");
        assert!(said(&output).starts_with(expected), "{expected}\n{text}: {}", said(&output));
        assert_eq!(said(&output).lines().count(), 1, "{text}: {}", said(&output));
    }
}

#[test]
fn a_path_that_is_not_text_works_too() {
    let directory = written(b"");
    let name = std::ffi::OsString::from_vec(b"caf\xe9.toml".to_vec());
    fs::write(
        directory.path().join(&name),
        GOOD.replace("[[cluster]]", "[log]\naccess = \"off\"\n[[cluster]]"),
    )
    .unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("check")
        .arg(Path::new(&name))
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), Some(0), "{}", said(&output));
}

#[test]
fn a_key_for_consumers_that_is_too_short_or_absent_is_refused() {
    for (file, said) in [("short.key", "the key has 10 bytes; at least 32"), ("no.key", "cannot be read")] {
        let output = check(&format!("{GOOD}[log]\nconsumer_key_file = \"{file}\"\n"));
        assert_eq!(code(&output), Some(78));
        assert!(self::said(&output).contains("log.consumer_key_file"), "{}", self::said(&output));
        assert!(self::said(&output).contains(said), "{}", self::said(&output));
    }
}
