//! A daemon without DPDK: workers on in-memory ports in one thread, the control plane in another, and a raw HTTP
//! client of its socket.

use ctl::config::Config;
use dataplane::affinity::Clients;
use dataplane::control::balancer::{Attached, Balancer, Start};
use dataplane::control::device::Unknown;
use dataplane::control::publish::{Link, Links};
use dataplane::control::{Control, socket::ControlSocket};
use dataplane::counters::WorkerCounters;
use dataplane::flow::Secret;
use dataplane::io::memory::{MemoryQueue, Wire};
use dataplane::pipeline::{Pipeline, Settings};
use dataplane::scheduler::MaglevParameters;
use dataplane::steering::Steering;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::{self, Worker};
use etherparse::PacketBuilder;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const PORT_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const WORKERS: usize = 2;

/// Takes a second to be stopped at most, when dropped.
pub struct Daemon {
    pub folder: tempfile::TempDir,
    pub wires: Vec<Wire>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { code, head: head.into(), body: body.into() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// One port, two services; `more` is appended.
pub fn config(more: &str) -> String {
    format!(
        r#"
[runtime]
workers = [0, 1]
control_cpus = [0]
max_connections = 1000

[[port]]
name = "lan"
device = "memory"
addresses = ["10.1.0.1/24", "2001:db8::1/64"]

[[route]]
to = "0.0.0.0/0"
via = "10.1.0.254"

[[service]]
name = "web"
vip = "192.0.2.10"
ports = "80"
protocol = "tcp"
mode = "nat"
scheduler = "round-robin"
[[service.backend]]
address = "10.1.0.11:8080"
[[service.backend]]
address = "10.1.0.12:8080"
{more}"#
    )
}

pub const DNS: &str = r#"
[[service]]
name = "dns"
vip = "192.0.2.11"
ports = "53"
protocol = "udp"
mode = "nat"
[[service.backend]]
address = "10.1.0.11:53"
"#;

impl Daemon {
    pub fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sluice.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let metrics = config.runtime.metrics;
        let stop = Arc::new(AtomicBool::new(false));
        let mut meshes = worker::mesh(WORKERS);
        let clients = Clients::new(WORKERS as u8, 1000, Secret::new([7; 48]));
        let (mut workers, mut links, mut wires) = (Vec::new(), Vec::new(), Vec::new());
        for number in (0..WORKERS as u8).rev() {
            let (queue, wire) = MemoryQueue::pair();
            let counters = Arc::new(WorkerCounters::with_backends(64));
            let pipeline = Pipeline::new(Settings {
                worker: number,
                steering: Arc::new(Steering::keyed(WORKERS as u8, Secret::new([7; 48]))),
                max_connections: 1000,
                large_pages: false,
                secret: Secret::new([7; 48]),
                maglev: MaglevParameters::default(),
                clients: Arc::clone(&clients),
                counters: Arc::clone(&counters),
            })
            .unwrap();
            let (control_end, worker_end) = worker::channel();
            links.insert(0, Link::new(u16::from(number), counters, control_end));
            workers.push(Worker::new(vec![queue], pipeline, meshes.pop().unwrap(), worker_end));
            wires.insert(0, wire);
        }
        let socket = ControlSocket::take(&folder.path().join("control.sock"), None).unwrap();
        let mut threads = Vec::new();
        let stopping = Arc::clone(&stop);
        threads.push(std::thread::spawn(move || {
            let begin = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                for worker in &mut workers {
                    worker.turn(begin.elapsed().as_millis() as u32);
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        }));
        let stopping = Arc::clone(&stop);
        let (told, ready) = std::sync::mpsc::channel();
        threads.push(std::thread::spawn(move || {
            let balancer = Balancer::start(Start {
                config,
                config_file: file,
                devices: vec![Attached { mac: PORT_MAC, mtu: 1500, device: Box::new(Unknown) }],
                links: Links::new(links),
                notices: vec!["a notice".into()],
                engine: "memory".into(),
            })
            .unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let stopped = async move {
                while !stopping.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let listener = socket.listener().unwrap();
            let run = dataplane::control::run(
                Control::new(balancer),
                listener,
                metrics,
                || told.send(()).unwrap(),
                stopped,
            );
            runtime.block_on(run).unwrap();
            drop(socket);
        }));
        ready.recv_timeout(Duration::from_secs(10)).expect("the control plane becomes ready");
        Self { folder, wires, stop, threads }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends raw bytes and returns all that comes back.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer::parse(&bytes)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").as_bytes())
    }

    pub fn post(&self, path: &str, kind: &str, body: &str) -> Answer {
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let length = body.len();
        self.raw(
            format!("POST {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        )
    }

    pub fn apply(&self, text: &str) -> Answer {
        self.post("/v1/config/apply", "application/toml", text)
    }

    /// A datagram from `client` to the service `dns`.
    pub fn datagram(&self, worker: usize, client: Ipv4Addr, port: u16) {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], PORT_MAC.0)
            .ipv4(client.octets(), [192, 0, 2, 11], 64)
            .udp(port, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"question").unwrap();
        self.wires[worker].send(&frame);
    }

    /// The neighbour at `address` says that `mac` is its address, in answer to a question.
    pub fn arp_reply(&self, address: [u8; 4], mac: Mac) {
        use dataplane::wire::{arp, ethernet};
        let mut frame = [0; 60];
        ethernet::emit(&mut frame, PORT_MAC, mac, ethernet::ethertype::ARP).unwrap();
        let own = (PORT_MAC, Ipv4Addr::new(10, 1, 0, 1));
        arp::emit(&mut frame[14..], arp::REPLY, (mac, address.into()), own).unwrap();
        self.wires[0].send(&frame);
    }
}

/// Waits until `condition` holds; panics after ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
