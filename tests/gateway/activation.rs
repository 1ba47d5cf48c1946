//! Socket activation: sockets that systemd listens on, taken by their addresses, or a mistake that says which.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Command, Output, Stdio},
};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::{
    config::{code, said},
    rig::{Client, Endpoint, Setup, until},
};

/// Gives children `sockets` as descriptors from `first` on. Each test has numbers of its own, because all children of
/// this process inherit them.
fn pass(first: i32, sockets: &[BorrowedFd<'_>]) -> Vec<OwnedFd> {
    let passed = sockets.iter().zip(first..).map(|(socket, number)| {
        let passed = fcntl_dupfd_cloexec(socket, number).unwrap();
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&passed), number, "a number of its own");
        fcntl_setfd(&passed, FdFlags::empty()).unwrap();
        passed
    });
    passed.collect()
}

fn listener() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn configured(endpoint: &Endpoint, address: SocketAddr, admin: SocketAddr) -> Setup {
    Setup::proxy(endpoint.address)
        .set("listen", &format!("address = [\"{address}\"]"))
        .set("listen", &format!("admin = \"{admin}\""))
}

/// Broken by a socket that is bound anew, which would lose who waits in the queue, or that only one shard accepts from.
#[test]
fn sockets_of_systemd_are_taken_by_their_addresses_for_all_shards() {
    let endpoint = Endpoint::answering("ok");
    let ((web, address), (admin, admin_address)) = (listener(), listener());
    let passed = pass(600, &[admin.as_fd(), web.as_fd()]);
    let mut early = Client::connect(address);
    early.send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    let gateway = configured(&endpoint, address, admin_address)
        .shards(2)
        .shell(
            "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDS_FIRST_FD=600 LISTEN_FDNAMES=admin.socket:web.socket; \
             exec \"$TOLLGATE\" run --config tollgate.toml",
        )
        .start();
    drop((passed, web, admin));
    assert_eq!((gateway.address, gateway.admin), (address, admin_address));
    assert_eq!(early.answer().status, 200);
    // One queue, two shards: whoever is quicker; over many connections both are.
    let mut shards = std::collections::HashSet::new();
    let mut count = 1;
    until("both shards to have accepted", || {
        for _ in 0..10 {
            assert_eq!(gateway.client().get("/", "").status, 200);
            count += 1;
        }
        shards.extend(gateway.log(count).iter().map(|line| line["shard"].to_string()));
        shards.len() == 2
    });
    gateway.stop();
}

/// Broken by a shard that accepts first and then wants a descriptor for itself.
#[test]
fn who_waits_at_the_start_takes_no_descriptor_that_a_shard_needs() {
    let endpoint = Endpoint::answering("ok");
    let (web, address) = listener();
    let passed = pass(660, &[web.as_fd()]);
    let crowd: Vec<Client> = (0..120).map(|_| Client::connect(address)).collect();
    let mut gateway = configured(&endpoint, address, SocketAddr::from(([127, 0, 0, 1], 0)))
        .shell(
            "ulimit -n 80; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDS_FIRST_FD=660 LISTEN_FDNAMES=web.socket; \
             exec \"$TOLLGATE\" run --config tollgate.toml",
        )
        .start();
    drop((passed, web));
    until("it to be without descriptors", || {
        assert_eq!(gateway.has_ended(), None, "{}", gateway.said().join("\n"));
        gateway.said().iter().any(|line| line.contains("no descriptors are left"))
    });
    drop(crowd);
    until("others to be served", || gateway.client().get("/", "").status == 200);
    gateway.stop();
}

/// Starts a gateway that must not come to serve, with these variables; what came of it.
fn refused(setup: &Setup, variables: &str) -> Output {
    let directory = setup.write();
    let line = format!("export {variables}; exec \"$TOLLGATE\" run --config tollgate.toml");
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"))
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(code(&output), Some(78), "{}", said(&output));
    output
}

#[test]
fn a_socket_that_is_not_configured_or_not_fit_is_a_mistake() {
    let endpoint = Endpoint::answering("ok");
    let ((web, address), (other, other_address)) = (listener(), listener());
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let setup = configured(&endpoint, address, SocketAddr::from(([127, 0, 0, 1], 0)));
    let _passed = pass(640, &[web.as_fd(), other.as_fd(), datagrams.as_fd()]);
    let output = refused(
        &setup,
        "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDS_FIRST_FD=640 LISTEN_FDNAMES=web.socket:other.socket",
    );
    let expected =
        format!("systemd passes a socket for {other_address} (other.socket), and neither listen.address");
    assert!(said(&output).contains(&expected), "{}", said(&output));
    let output =
        refused(&setup, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDS_FIRST_FD=642 LISTEN_FDNAMES=dns.socket");
    assert!(said(&output).contains("(dns.socket) that cannot be listened on"), "{}", said(&output));
}

/// Broken by variables that are taken for ours although they name another process: the sockets are not here.
#[test]
fn what_systemd_passes_to_others_is_not_ours() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address)
        .shell("export LISTEN_PID=1 LISTEN_FDS=1; exec \"$TOLLGATE\" run --config tollgate.toml")
        .start();
    assert_eq!(gateway.client().get("/", "").status, 200);
}
