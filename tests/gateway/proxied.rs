//! Behind a balancer that speaks the PROXY protocol: who a connection is from is what its header says.

use std::net::SocketAddr;

use crate::rig::{Client, Endpoint, Gateway, Setup, until};

fn behind_a_balancer(endpoint: &Endpoint) -> (Gateway, SocketAddr) {
    let gateway = Setup::new()
        .shards(2)
        .set("listen", "proxied = [\"127.0.0.1:0\"]")
        .set("timeouts", "head = \"400ms\"")
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "limit = [{ by = \"ip\", quota = \"2/hour\" }]")
        .start();
    let said = gateway.said();
    let line = said.iter().find(|line| line.contains("PROXY connections on ")).unwrap();
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    (gateway, address)
}

/// A version 2 header from this IPv4 address.
fn v2(client: [u8; 4], command: u8) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, 0x11, 0, 12][..], &client, &[127, 0, 0, 1, 0x12, 0x34, 0, 80]]
        .concat()
}

#[test]
fn the_client_is_whom_the_header_names() {
    let endpoint = Endpoint::answering("ok");
    let (gateway, address) = behind_a_balancer(&endpoint);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (round, (header, client)) in [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 80\r\n".to_vec(), "192.0.2.7"),
        (v2([192, 0, 2, 8], 1), "192.0.2.8"),
        (b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n".to_vec(), "2001:db8::7"),
        // The balancer's own connection, which looks whether we are alive.
        (v2([192, 0, 2, 9], 0), "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        // In one piece with the request, and byte by byte.
        let mut whole = Client::connect(address);
        whole.send([&header[..], request].concat());
        assert_eq!(whole.answer().status, 200, "{client}");
        // It stands in front of the connection and not of each request.
        assert_eq!(whole.send(request).answer().status, 200);
        let mut slow = Client::connect(address);
        for &byte in &header {
            slow.send([byte]);
        }
        let refused = slow.send(request).answer();
        assert_eq!(refused.status, 429, "{client}: counted by its own address");
        let lines = gateway.log(3 * (round + 1));
        assert_eq!(lines.last().unwrap()["client_ip"], client);
    }
    let seen = endpoint.seen(8);
    assert_eq!(seen[0].field("X-Forwarded-For"), Some("192.0.2.7"));
    assert_eq!(gateway.client().get("/", "").status, 429, "127.0.0.1 has used up its own");
}

#[test]
fn who_does_not_say_who_they_are_is_not_heard() {
    let endpoint = Endpoint::answering("ok");
    let (gateway, address) = behind_a_balancer(&endpoint);
    for beginning in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PROXY TCP4 nobody 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        // Begun and never finished.
        b"PROXY TCP4 192.0.2.7 ",
    ] {
        let mut client = Client::connect(address);
        client.send(beginning);
        assert!(client.rest().is_empty(), "{}", String::from_utf8_lossy(beginning));
    }
    until("them to be counted", || gateway.metric("tollgate_proxy_headers_refused_total") == 3.0);
    assert_eq!(endpoint.connections(), 0);
    // And a header where none is asked for is no request.
    let mut plain = gateway.client();
    plain.send("PROXY TCP4 192.0.2.7 127.0.0.1 4660 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(plain.answer().status, 400);
}
