//! Checks against a peer in memory, which is smoltcp too, on a clock that stands still until everybody waits.

use super::super::stack::Queues;
use super::*;
use crate::route::NextHop;
use ctl::config::Config;
use smoltcp::iface::{Config as StackConfig, Interface, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::time::Duration;
use tokio::time::Instant;

/// What the peer does with a request on port 80: it sends this and closes.
#[derive(Clone, Copy)]
struct Manners {
    answer: &'static [u8],
    /// Of the packets of both sides, every so many is lost.
    loses: usize,
    silent: bool,
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well";
const USUAL: Manners = Manners { answer: GOOD, loses: usize::MAX, silent: false };

/// The far end of an exchange.
struct Peer {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    web: smoltcp::iface::SocketHandle,
    echo: smoltcp::iface::SocketHandle,
    manners: Manners,
    begun: Instant,
    packets: usize,
}

impl Peer {
    fn new(manners: Manners, addresses: &[IpAddr]) -> Self {
        let mut queues = Queues::new(1500);
        let config = StackConfig::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut queues, StackInstant::ZERO);
        interface.update_ip_addrs(|list| {
            for &own in addresses {
                list.push(IpCidr::new(address(own), 0)).unwrap();
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = |len: usize| tcp::SocketBuffer::new(vec![0; len]);
        let mut web = tcp::Socket::new(buffer(4096), buffer(200_000));
        web.listen(80).unwrap();
        let packets = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
        let mut echo = udp::Socket::new(packets(), packets());
        echo.bind(7).unwrap();
        let (web, echo) = (sockets.add(web), sockets.add(echo));
        Self { interface, queues, sockets, web, echo, manners, begun: Instant::now(), packets: 0 }
    }

    fn loses_one(&mut self) -> bool {
        self.packets += 1;
        self.packets.is_multiple_of(self.manners.loses)
    }

    /// Carries packets both ways for ever.
    async fn run(mut self, exchange: Arc<Exchange>) {
        loop {
            for outgoing in exchange.take() {
                if !self.manners.silent && !self.loses_one() {
                    self.queues.received.push_back(outgoing.packet);
                }
            }
            let now = StackInstant::from_micros(self.begun.elapsed().as_micros() as i64);
            self.interface.poll(now, &mut self.queues, &mut self.sockets);
            self.serve();
            self.interface.poll(now, &mut self.queues, &mut self.sockets);
            for packet in std::mem::take(&mut self.queues.sent) {
                if !self.loses_one() {
                    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
                    let frame = [&[0; 12][..], &kind, &packet].concat();
                    exchange.deliver(&frame);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn serve(&mut self) {
        let web = self.sockets.get_mut::<tcp::Socket<'_>>(self.web);
        let asked = web.recv(|bytes| (bytes.len(), !bytes.is_empty())).unwrap_or(false);
        if asked {
            web.send_slice(self.manners.answer).unwrap();
            web.close();
        }
        let echo = self.sockets.get_mut::<udp::Socket<'_>>(self.echo);
        while let Ok((bytes, from)) = echo.recv() {
            let bytes = bytes.to_vec();
            echo.send_slice(&bytes, from).unwrap();
        }
    }
}

/// A `[service.health]`.
fn health(text: &str) -> Arc<Health> {
    let text = format!(
        "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.1.0.1/24\"]\n[[service]]\nvip = \"192.0.2.10\"\n\
         ports = \"80\"\nprotocol = \"tcp\"\nmode = \"nat\"\nbackend = [{{ address = \"10.1.0.11\" }}]\n[service.health]\n{text}"
    );
    Arc::new(Config::parse(&text, "test").unwrap().services.remove(0).health.unwrap())
}

/// The outcome of a check of the peer's `port`, and how long it took.
async fn outcome(manners: Manners, text: &str, port: u16, v6: bool) -> (Result<(), String>, Duration) {
    let (local, remote): (IpAddr, IpAddr) = if v6 {
        ("2001:db8::1".parse().unwrap(), "2001:db8::11".parse().unwrap())
    } else {
        ("10.1.0.1".parse().unwrap(), "10.1.0.11".parse().unwrap())
    };
    let exchange = Arc::new(Exchange::default());
    let peer = tokio::spawn(Peer::new(manners, &[remote]).run(Arc::clone(&exchange)));
    let way = Way { hop: NextHop { port: 0, address: remote }, slot: 0 };
    let question = Question { health: health(text), tls: None, local, remote, port, way, mtu: 1500 };
    let begun = Instant::now();
    let outcome = ask(&exchange, question).await;
    let took = begun.elapsed();
    peer.abort();
    assert!(!exchange.is_busy(), "the port is given back");
    (outcome, took)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

#[track_caller]
fn passes(manners: Manners, text: &str, port: u16) {
    for v6 in [false, true] {
        let (outcome, _) = run(outcome(manners, text, port, v6));
        assert_eq!(outcome, Ok(()), "{text}, IPv6: {v6}");
    }
}

#[track_caller]
fn fails(manners: Manners, text: &str, port: u16, words: &str) {
    let (outcome, _) = run(outcome(manners, text, port, false));
    assert_eq!(outcome, Err(words.to_owned()), "{text}");
}

#[test]
fn who_answers_passes() {
    passes(USUAL, "type = \"tcp\"", 80);
    passes(USUAL, "type = \"tcp\"\npayload = \"hi\"\nexpect = \"200 OK\"", 80);
    passes(USUAL, "type = \"http\"", 80);
    passes(USUAL, "type = \"http\"\nbody = \"is well\"\nstatus = 200", 80);
    passes(USUAL, "type = \"udp\"", 7);
    passes(USUAL, "type = \"udp\"\npayload = \"hex:0001\"\nexpect = \"hex:01\"", 7);
    passes(USUAL, "type = \"icmp\"", 0);
}

#[test]
fn who_refuses_fails_at_once() {
    let (refused, took) = run(outcome(USUAL, "type = \"tcp\"", 81, false));
    assert_eq!(refused, Err("connection refused".into()));
    assert!(took < Duration::from_millis(20), "{took:?}");
    let (refused, took) = run(outcome(USUAL, "type = \"udp\"", 8, false));
    assert_eq!(refused, Err("port unreachable, says 10.1.0.11".into()));
    assert!(took < Duration::from_millis(20), "{took:?}");
}

#[test]
fn who_is_silent_fails_in_time() {
    let silent = Manners { silent: true, ..USUAL };
    for kind in ["tcp", "http", "udp", "icmp"] {
        let text = format!("type = \"{kind}\"\ntimeout = \"700ms\"");
        let (outcome, took) = run(outcome(silent, &text, 80, false));
        assert_eq!(outcome, Err("timeout after 700ms".into()));
        assert!((700..710).contains(&took.as_millis()), "{took:?}");
    }
}

#[test]
fn who_says_something_else_fails() {
    let says = |answer: &'static [u8]| Manners { answer, ..USUAL };
    let http = "type = \"http\"";
    let http_body = "type = \"http\"\nbody = \"well\"";
    fails(says(b"HTTP/1.1 503 Sorry\r\n\r\n"), http, 80, "status 503, wanted 200-399");
    fails(
        says(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"),
        "type = \"http\"\nstatus = 200",
        80,
        "status 302, wanted 200",
    );
    fails(says(b"HTTP/1.1 200 OK\r\n\r\nsick"), http_body, 80, "the body of 4 bytes lacks \"well\"");
    fails(says(b"220 mail ready\r\n"), http, 80, "not HTTP: invalid HTTP version parsed");
    fails(says(b""), http, 80, "connection closed before message completed");
    fails(
        says(b"220 mail"),
        "type = \"tcp\"\npayload = \"x\"\nexpect = \"pop\"",
        80,
        "closed after 8 bytes without what is expected",
    );
    fails(
        USUAL,
        "type = \"udp\"\npayload = \"a\"\nexpect = \"b\"\ntimeout = \"50ms\"",
        7,
        "timeout after 50ms",
    );
}

#[test]
fn endless_answers_are_cut_short() {
    static ENDLESS: [u8; 150_000] = {
        let mut bytes = [b'y'; 150_000];
        let head = b"HTTP/1.1 200 OK\r\n\r\n";
        let mut at = 0;
        while at < head.len() {
            bytes[at] = head[at];
            at += 1;
        }
        bytes
    };
    static HEADERS: [u8; 150_000] = {
        let mut bytes = [b'z'; 150_000];
        let head = b"HTTP/1.1 200 OK\r\nX: ";
        let mut at = 0;
        while at < head.len() {
            bytes[at] = head[at];
            at += 1;
        }
        bytes
    };
    let endless = Manners { answer: &ENDLESS, ..USUAL };
    fails(endless, "type = \"http\"\nbody = \"well\"", 80, "the first 65536 bytes of the body lack \"well\"");
    passes(endless, "type = \"http\"", 80);
    fails(
        endless,
        "type = \"tcp\"\npayload = \"x\"\nexpect = \"well\"",
        80,
        "the first 65536 bytes lack what is expected",
    );
    fails(
        Manners { answer: &HEADERS, ..USUAL },
        "type = \"http\"",
        80,
        "not HTTP: message head is too large",
    );
}

#[test]
fn lost_packets_are_sent_again() {
    for loses in 3..8 {
        let lossy = Manners { loses, ..USUAL };
        let text = "type = \"http\"\nbody = \"well\"\ninterval = \"60s\"\ntimeout = \"60s\"";
        let (outcome, _) = run(outcome(lossy, text, 80, false));
        assert_eq!(outcome, Ok(()), "every {loses}th is lost");
    }
}

#[test]
fn a_word_across_two_reads_is_found() {
    assert!(contains_since(b"all is well", 9, b"well"));
    assert!(!contains_since(b"all is well", 11, b"all"));
    assert!(contains_since(b"x", 0, b"x") && !contains_since(b"", 0, b"x"));
}
