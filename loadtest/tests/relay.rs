//! `loadtest relay` from outside: every byte both ways, ends passed on one direction at a time, failures as resets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const DEADLINE: Duration = Duration::from_secs(20);
/// More than the sockets' buffers and the relay's bound hold together, so that it must slow a sender down.
const LARGE_BYTES: usize = 24 * 1024 * 1024;

/// A relay, stopped when it is dropped.
struct Relay {
    child: Child,
    address: SocketAddr,
}

impl Relay {
    fn start(target: SocketAddr) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["relay", "--listen", "127.0.0.1:0", "--target", &target.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the relay");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its first line");
        let address = line.trim().strip_prefix("listening on ").expect("where it listens");
        Self { address: address.parse().expect("an address"), child }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the relay accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that do not repeat, so that any of them lost, doubled or moved shows.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let word = |index: u64| (seed << 32 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8) as u64).flat_map(word).collect();
    noise.truncate(bytes);
    noise
}

/// Breaks when bytes are lost, doubled or mixed up, when a slow reader is not waited for, or when an end of one
/// direction ends the other one too.
#[test]
fn copies_every_byte_both_ways_across_a_half_close() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an endpoint");
    let relay = Relay::start(listener.local_addr().expect("an address"));
    let (asked, answered) = (noise(1, LARGE_BYTES), noise(2, LARGE_BYTES));
    let expected = answered.clone();
    let (go_on, wait) = mpsc::channel();
    let endpoint = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the relay connects");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        // Nothing is read before the sender has filled what lies between.
        wait.recv_timeout(DEADLINE).expect("the client has begun");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("the client's end is passed on");
        stream.write_all(&answered).expect("this direction is still open");
        received
    });
    let mut client = relay.connect();
    client.write_all(&asked[..1024 * 1024]).expect("what the buffers hold");
    go_on.send(()).expect("the endpoint waits");
    client.write_all(&asked[1024 * 1024..]).expect("the rest");
    client.shutdown(Shutdown::Write).expect("half closed");
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("the endpoint's end is passed on");
    assert!(received == expected, "the answer changed on its way");
    assert!(endpoint.join().expect("the endpoint") == asked, "the request changed on its way");
}

/// Breaks when connections share state: each of many must get its own bytes back.
#[test]
fn keeps_connections_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an endpoint");
    let relay = Relay::start(listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a second handle");
                std::io::copy(&mut BufReader::new(stream), &mut writer)
            });
        }
    });
    let mut clients: Vec<TcpStream> = (0..32).map(|_| relay.connect()).collect();
    for round in 0..20 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&noise(round * 100 + index as u64, 100 + index * 7)).expect("sent");
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let mut back = vec![0; 100 + index * 7];
            client.read_exact(&mut back).expect("echoed");
            assert_eq!(back, noise(round * 100 + index as u64, back.len()), "client {index}, round {round}");
        }
    }
}

/// Breaks when a stream that was cut ends like one that is whole.
#[test]
fn passes_a_reset_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an endpoint");
    let relay = Relay::start(listener.local_addr().expect("an address"));
    let mut client = relay.connect();
    client.write_all(b"ask").expect("sent");
    let (mut endpoint, _) = listener.accept().expect("the relay connects");
    endpoint.read_exact(&mut [0; 3]).expect("asked");
    let endpoint = socket2::Socket::from(endpoint);
    endpoint.set_linger(Some(Duration::ZERO)).expect("a reset at the close");
    drop(endpoint);
    let error = client.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Breaks when a client waits for ever for an upstream connection that cannot be.
#[test]
fn resets_the_client_of_a_target_that_refuses() {
    // Bound and not listening: nobody else is given the port meanwhile.
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let relay = Relay::start(bound.local_addr().expect("an address").as_socket().expect("an address of IP"));
    let mut client = relay.connect();
    let error = client.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
