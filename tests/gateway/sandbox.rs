//! What the gateway asks of the kernel: no more than `tuning/seccomp/tollgate.json` lists, over a whole life.

use std::{fs, path::Path, thread};

use seccompiler::{BpfMap, apply_filter, compile_from_json};
use serde_json::{Value, json};

use crate::{
    rig::{Endpoint, NameServer, Says, Setup, until},
    upgrade::Dynasty,
};

/// The profile as a filter, under which any call that is not listed ends the process.
fn profile() -> BpfMap {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/seccomp/tollgate.json");
    let profile: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let calls = profile["syscalls"][0]["names"].as_array().unwrap();
    // The rig goes into the gateway's directory before it becomes the gateway.
    let calls = calls.iter().filter_map(Value::as_str).chain(["chdir"]);
    let calls: Vec<Value> = calls.map(|name| json!({ "syscall": name })).collect();
    let filter = json!({ "gateway": {
        "mismatch_action": "kill_process",
        "match_action": "allow",
        "filter": calls,
    }});
    compile_from_json(filter.to_string().as_bytes(), std::env::consts::ARCH.try_into().unwrap()).unwrap()
}

/// Broken by a new call that the profile does not have: the gateway would die of it where operators use the profile.
#[cfg(target_arch = "x86_64")] // The kernel's names for old calls are missing elsewhere.
#[test]
fn a_whole_life_needs_no_other_system_call() {
    let endpoint = Endpoint::answering("ok");
    let port = endpoint.address.port();
    // Asked over UDP, and then over TCP, for the answer is said to be too long.
    let server = NameServer::start();
    for name in ["pay.test", "localhost"] {
        server.says(name, Says::Long(vec![endpoint.address.ip()], 1));
    }
    for driver in ["auto", "epoll"] {
        let setup = Setup::new()
            .shards(2)
            .driver(driver)
            .set("shards", "cpus = \"auto\"")
            .set("log", "rotate_bytes = \"4KiB\"")
            .file("revoked.txt", b"jti:gone\n")
            .text("\n[revocation]\nfile = \"revoked.txt\"\n")
            .file("audit.key", b"0123456789abcdef0123456789abcdef")
            .text(
                "\n[audit]\npath = \"audit.log\"\nkey_file = \"audit.key\"\ncheckpoint = \"100ms\"\n\
                 anchor = [\"anchors\"]\n",
            )
            .text(&format!("\n[resolve]\nservers = [\"{}\"]\nttl_min = \"20ms\"\n", server.address))
            .text(&format!(
                "\n[[cluster]]\nname = \"named\"\nendpoints = [{{ address = \"pay.test:{port}\" }}]\n"
            ))
            .text(&format!(
                "\n[[cluster]]\nname = \"main\"\nendpoints = [{{ address = \"localhost:{port}\" }}]\n"
            ))
            .keys("")
            .route("all", "/", "main", "limit = [{ by = \"ip\", quota = \"100000/hour\" }]")
            .route("pay", "/pay", "main", "jwt = \"partners\"")
            .route("audited", "/audited", "named", "audit = true");
        // A filter holds for the thread that asks for it and whatever it starts.
        let confined = thread::spawn(move || {
            apply_filter(&profile()["gateway"]).unwrap();
            Dynasty::found(setup)
        });
        let mut dynasty = confined.join().unwrap();
        let ask = |dynasty: &Dynasty| {
            // Who parts from its clients closes after an answer.
            let client = || dynasty.gateway.client();
            for _ in 0..40 {
                assert_eq!(client().get("/x", "").status, 200);
            }
            assert_eq!(client().post("/up", "", &[b'x'; 200_000]).status, 200);
            until("its name to be resolved", || client().get("/audited", "").status == 200);
            assert_eq!(client().get("/pay", "Authorization: Bearer a.b.c\r\n").status, 401);
        };
        ask(&dynasty);
        dynasty.gateway.signal("USR1");
        assert_eq!(dynasty.gateway.admin_request("POST", "/reload").0, 200);
        assert_eq!(dynasty.gateway.admin_get("/metrics").0, 200);
        dynasty.upgrade();
        ask(&dynasty);
        assert_eq!(dynasty.gateway.wait().code(), Some(0), "{}", dynasty.gateway.said().join("\n"));
        let audit = fs::read_to_string(dynasty.gateway.directory().join("audit.log")).unwrap();
        assert!(audit.contains("\"outcome\""), "{audit}");
        until("requests to be logged", || fs::read_dir(dynasty.gateway.directory()).unwrap().count() > 3);
    }
}
