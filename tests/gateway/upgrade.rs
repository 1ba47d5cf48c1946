//! Upgrade: a successor process takes over, and neither a request nor a used unit is lost on the way.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    live_orders::ask,
    pinning::{threads, usable_cpus},
    rig::{Client, Endpoint, Gateway, Setup, until},
};

/// A gateway with all that follow it; the rig ends only the first.
pub(crate) struct Dynasty {
    pub(crate) gateway: Gateway,
    pid: u32,
}

impl Dynasty {
    pub(crate) fn found(setup: Setup) -> Self {
        let gateway = setup.start();
        Self { pid: gateway.pid(), gateway }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.pid.to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn said(&self, words: &str) -> usize {
        self.gateway.said().iter().filter(|line| line.contains(words)).count()
    }

    /// Has a successor take over and waits until the admin address is its.
    pub(crate) fn upgrade(&mut self) {
        let before = self.pid;
        self.signal("USR2");
        until("the successor", || {
            assert_eq!(self.said("upgrade refused"), 0, "{}", self.gateway.said().join("\n"));
            self.successors().last().is_some_and(|&pid| pid != before)
        });
        self.pid = *self.successors().last().unwrap();
        until("the admin address", || self.status()["pid"] == self.pid);
    }

    fn successors(&self) -> Vec<u32> {
        let said = self.gateway.said();
        let lines = said.iter().filter_map(|line| line.split_once("successor ")?.1.split_once(" serves"));
        lines.map(|(pid, _)| pid.parse().unwrap()).collect()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.gateway.admin_get("/status").1).unwrap()
    }
}

impl Drop for Dynasty {
    fn drop(&mut self) {
        if self.pid != self.gateway.pid() {
            // What is our child's child is nobody's to wait for.
            let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).status();
        }
    }
}

fn limited(endpoint: &Endpoint, quota: &str) -> Setup {
    Setup::new()
        .shards(2)
        .set("bounds", "keepalive_requests = 1000000")
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", &format!("limit = [{{ by = \"ip\", quota = \"{quota}\" }}]"))
}

/// Broken by a successor that begins with the CPUs the shards left: it could not have theirs.
#[test]
fn a_successor_may_have_the_cpus_that_the_shards_had() {
    let Some(last) = usable_cpus().pop() else { return };
    let endpoint = Endpoint::answering("ok");
    let setup = limited(&endpoint, "100/hour").shards(1).set("shards", &format!("cpus = \"{last}\""));
    let mut dynasty = Dynasty::found(setup);
    for _ in 0..2 {
        dynasty.upgrade();
        let shards: Vec<_> = threads(dynasty.pid).into_iter().filter(|(name, _)| name == "shard-0").collect();
        assert_eq!(shards, [("shard-0".to_owned(), last.to_string())]);
    }
}

/// Broken by a socket that is closed with clients in its queue, or by a close that no answer announced.
#[test]
fn ten_upgrades_under_load_cost_no_request() {
    let endpoint = Endpoint::answering("ok");
    let mut dynasty = Dynasty::found(limited(&endpoint, "10000000/hour"));
    let gateway_address = dynasty.gateway.address;
    let over = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    let posted = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (over, asked) = (&over, &asked);
                scope.spawn(move || {
                    let mut connection: Option<Client> = None;
                    let mut bodies = Vec::new();
                    for turn in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let open = connection.get_or_insert_with(|| Client::connect(gateway_address));
                        let body = format!("payment {client}/{turn}");
                        let answer = match turn % 2 {
                            0 => open.post("/pay", "", body.as_bytes()),
                            _ => open.get("/pay", ""),
                        };
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        if answer.field("Connection") == Some("close") {
                            connection = None;
                        }
                        if turn % 2 == 0 {
                            bodies.push(body);
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    bodies
                })
            })
            .collect();
        for _ in 0..10 {
            dynasty.upgrade();
            let before = asked.load(Ordering::Relaxed);
            until("traffic", || asked.load(Ordering::Relaxed) > before + 40);
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<String>>()
    });
    let seen = endpoint.seen(asked.load(Ordering::Relaxed));
    assert_eq!(seen.len(), asked.load(Ordering::Relaxed), "each exactly once");
    let bodies = seen.into_iter().map(|seen| String::from_utf8(seen.body).unwrap());
    let bodies: Vec<String> = bodies.filter(|body| !body.is_empty()).collect();
    assert_eq!(bodies.len(), posted.len());
    assert_eq!(bodies.into_iter().collect::<HashSet<_>>(), posted.into_iter().collect());
    assert_eq!(dynasty.successors().len(), 10);
    assert_eq!(dynasty.said("are cut"), 0);
    assert_eq!(dynasty.gateway.wait().code(), Some(0));
}

#[test]
fn a_quota_that_is_used_stays_used() {
    let endpoint = Endpoint::answering("ok");
    let mut dynasty = Dynasty::found(limited(&endpoint, "2/hour"));
    let ask = |dynasty: &Dynasty| dynasty.gateway.client().get("/", "").status;
    assert_eq!(ask(&dynasty), 200);
    dynasty.upgrade();
    assert_eq!([ask(&dynasty), ask(&dynasty)], [200, 429]);
    dynasty.upgrade();
    assert_eq!(ask(&dynasty), 429);
}

/// Broken by a copy of what is used: both processes would hand out what was left.
#[test]
fn clients_that_race_during_upgrades_get_the_quota_and_no_more() {
    let endpoint = Endpoint::answering("ok");
    let mut dynasty = Dynasty::found(limited(&endpoint, "3000/hour"));
    let address = dynasty.gateway.address;
    let over = AtomicBool::new(false);
    let (admitted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection: Option<Client> = None;
                while !over.load(Ordering::Relaxed) {
                    let answer = connection.get_or_insert_with(|| Client::connect(address)).get("/", "");
                    match answer.status {
                        200 => admitted.fetch_add(1, Ordering::Relaxed),
                        429 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}"),
                    };
                    if answer.field("Connection") == Some("close") {
                        connection = None;
                    }
                }
            });
        }
        for _ in 0..3 {
            dynasty.upgrade();
        }
        until("the quota to be used up", || refused.load(Ordering::Relaxed) > 100);
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(admitted.load(Ordering::Relaxed), 3000);
}

/// Broken by a successor that knows only the file, or one that learns of orders after its shards have begun to choose.
#[test]
fn an_endpoint_that_was_taken_out_stays_out() {
    let answers = ["drained", "weighed", "forgotten"].map(Endpoint::answering);
    let [drained, weighed, forgotten] = answers.each_ref().map(|endpoint| endpoint.address);
    let setup = |endpoints: &[SocketAddr]| {
        Setup::new().shards(2).cluster("main", endpoints, "").route("all", "/", "main", "")
    };
    let mut dynasty = Dynasty::found(setup(&[drained, weighed, forgotten]));
    let order = |dynasty: &Dynasty, action: &str, mut order: Value| {
        order["cluster"] = "main".into();
        let (status, answer) = ask(&dynasty.gateway, "POST", &format!("/endpoints/{action}"), &order);
        assert_eq!(status, 200, "{answer}");
    };
    order(&dynasty, "drain", json!({ "address": drained }));
    order(&dynasty, "drain", json!({ "address": forgotten }));
    order(&dynasty, "weight", json!({ "address": weighed, "weight": 7 }));
    let told = |dynasty: &Dynasty| {
        let clusters: Value = serde_json::from_str(&dynasty.gateway.admin_get("/clusters").1).unwrap();
        let told = |endpoint: &Value| (endpoint["state"].clone(), endpoint["weight_ordered"].clone());
        clusters[0]["endpoints"].as_array().unwrap().iter().map(told).collect::<Vec<_>>()
    };
    let ordered = [(json!("drained"), Value::Null), (json!("up"), json!(7))];
    assert_eq!(told(&dynasty)[..2], ordered);
    setup(&[drained, weighed]).write_into(dynasty.gateway.directory());
    let asked = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let address = dynasty.gateway.address;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Whoever accepts: there is no moment at which the one that is drained is asked.
            while !over.load(Ordering::Relaxed) {
                assert_eq!(Client::connect(address).get("/", "").text(), "weighed");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..2 {
            dynasty.upgrade();
            let before = asked.load(Ordering::Relaxed);
            until("traffic", || asked.load(Ordering::Relaxed) > before + 40);
            assert_eq!(told(&dynasty), ordered, "the second one has it from the first");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(dynasty.said(&format!("not configured is dropped: {forgotten} of \"main\"")), 1);
    order(&dynasty, "restore", json!({ "address": drained }));
    until("it to be asked again", || dynasty.gateway.client().get("/", "").text() == "drained");
    dynasty.upgrade();
    assert_eq!(told(&dynasty)[0].0, "up", "what was taken back is not handed over");
}

/// More shards share the sockets there are; fewer listen on several.
#[test]
fn the_successor_may_have_other_shards() {
    let endpoint = Endpoint::answering("ok");
    let with = |shards| Setup::proxy(endpoint.address).shards(shards);
    let mut dynasty = Dynasty::found(with(2));
    let file = dynasty.gateway.directory().join("tollgate.toml");
    for shards in [3, 1] {
        let text = fs::read_to_string(&file).unwrap();
        let line = text.lines().find(|line| line.starts_with("count = ")).unwrap();
        fs::write(&file, text.replace(line, &format!("count = {shards}"))).unwrap();
        dynasty.upgrade();
        assert_eq!(dynasty.status()["shards"].as_array().unwrap().len(), shards);
        for _ in 0..20 {
            assert_eq!(dynasty.gateway.client().get("/", "").status, 200);
        }
    }
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let endpoint = Endpoint::answering("ok");
    let dynasty = Dynasty::found(Setup::proxy(endpoint.address));
    let file = dynasty.gateway.directory().join("tollgate.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("cluster = \"main\"", "cluster = \"mian\"")).unwrap();
    let mut client = dynasty.gateway.client();
    assert_eq!(client.get("/", "").status, 200);
    dynasty.signal("USR2");
    until("the refusal", || dynasty.said("upgrade refused, this process goes on") == 1);
    let answer = client.get("/", "");
    assert_eq!((answer.status, answer.field("Connection")), (200, None));
    let status = dynasty.status();
    assert_eq!((&status["phase"], &status["pid"]), (&"serving".into(), &dynasty.gateway.pid().into()));
}

/// A supervisor learns who is ready and who follows, and is told often enough that it lives.
#[test]
fn systemd_is_told() {
    let endpoint = Endpoint::answering("ok");
    // The rig gives a line of shell no other way to know a path than the place of the configuration.
    let setup = Setup::proxy(endpoint.address).shell(
        "export NOTIFY_SOCKET=\"${CONFIG%/*}/notify\" WATCHDOG_USEC=200000; exec \"$TOLLGATE\" run --config tollgate.toml",
    );
    let written = Setup::proxy(endpoint.address).write();
    let supervisor_path = written.path().join("notify");
    let supervisor = UnixDatagram::bind(supervisor_path).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let gateway = setup.start_in(written);
    let mut dynasty = Dynasty { pid: gateway.pid(), gateway };
    let hear = |words: &str| {
        let mut text = [0; 512];
        loop {
            let count = supervisor.recv(&mut text).unwrap();
            if String::from_utf8_lossy(&text[..count]).contains(words) {
                break;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    dynasty.upgrade();
    hear(&format!("MAINPID={}", dynasty.pid));
    hear("WATCHDOG=1");
    dynasty.signal("TERM");
    hear("STOPPING=1");
}
