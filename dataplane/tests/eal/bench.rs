//! The bench that the tests stand on: isolation, a started EAL, raw sockets on the far end of an interface.

use dataplane::io::dpdk::{Eal, EalConfig, Mempool, MempoolConfig, Port, PortConfig, QueuePair};
use dataplane::io::{Burst, Queue};
use dataplane::packet::Packet;
use std::ffi::CString;
use std::io;
use std::mem;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Ethertype for experiments (IEEE 802): the kernel sends none of its own.
pub(crate) const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// Set in the process that a test starts for itself.
const INSIDE: &str = "SLUICE_TEST_INSIDE";

/// Runs `body` in a process of its own, in a network namespace of its own. `name` is the test's full path.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        // SAFETY: unshare takes no pointer; it concerns this thread and those that it starts.
        let status = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(status, 0, "these tests need root: {}", io::Error::last_os_error());
        body();
        return;
    }
    let program = env::current_exe().expect("the test binary has a path");
    let output = Command::new(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output();
    let output = output.expect("the test binary runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test is called {name:?}: {text}");
    print!("{text}");
}

/// Starts DPDK, with hugepages (reserved if there are too few) or without.
pub(crate) fn start(hugepages: bool) -> Eal {
    if hugepages {
        reserve_hugepages();
    }
    let config = EalConfig { hugepages, memory_mib: if hugepages { 0 } else { 128 }, ..EalConfig::default() };
    Eal::init(&config).expect("EAL starts")
}

/// Sees to it that 256 MiB of hugepages are free; never takes any away.
fn reserve_hugepages() {
    const PAGES: u64 = 128;
    let folder = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    let read = |file: &str| -> u64 {
        let text = fs::read_to_string(format!("{folder}/{file}")).expect("the kernel has 2 MiB hugepages");
        text.trim().parse().expect("a number")
    };
    let free = read("free_hugepages");
    if free < PAGES {
        let wanted = read("nr_hugepages") + PAGES - free;
        fs::write("/proc/sys/vm/nr_hugepages", wanted.to_string()).expect("hugepages can be reserved");
    }
}

/// A pool for a test, with every buffer at home.
pub(crate) fn pool(eal: &Eal) -> Mempool {
    let pool = Mempool::new(eal, &MempoolConfig { mbufs: 8191, ..MempoolConfig::default() }).expect("a pool");
    assert_eq!(pool.in_use(), 0);
    pool
}

/// Opens a device with one queue and takes it.
pub(crate) fn open(eal: &Eal, pool: &Mempool, device: &str) -> (Port, QueuePair) {
    let config = PortConfig {
        device: device.into(),
        rx_descriptors: 256,
        tx_descriptors: 256,
        ..PortConfig::default()
    };
    let mut port = Port::open(eal, &config, pool).unwrap_or_else(|error| panic!("{error}"));
    let queue = port.take_queues(1).pop().expect("one queue");
    (port, queue)
}

/// A frame of `len` bytes whose payload tells it from others.
pub(crate) fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x02, 0, 0, 0, 0, 1]);
    frame.extend(ETHERTYPE);
    frame.resize(len, number);
    frame
}

/// A packet holding a copy of `bytes`.
pub(crate) fn packet<Q: Queue>(queue: &mut Q, bytes: &[u8]) -> Q::Packet {
    let mut packet = queue.allocate().expect("a free buffer");
    assert!(packet.set_len(bytes.len()), "the frame fits");
    packet.data_mut().copy_from_slice(bytes);
    packet
}

/// Receives experiment frames until there are `count` of them, or for five seconds.
pub(crate) fn receive<Q: Queue>(queue: &mut Q, count: usize) -> Vec<Q::Packet> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut packets = Vec::new();
    while packets.len() < count && Instant::now() < deadline {
        let mut burst = Burst::new();
        queue.receive(&mut burst);
        if burst.is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        packets.extend(burst.drain(..).filter(|packet| packet.data().get(12..14) == Some(&ETHERTYPE[..])));
    }
    packets
}

/// Sends packets in bursts; returns how many were taken.
pub(crate) fn transmit<Q: Queue>(queue: &mut Q, packets: impl IntoIterator<Item = Q::Packet>) -> usize {
    let mut packets = packets.into_iter().peekable();
    let mut taken = 0;
    while packets.peek().is_some() {
        let mut burst: Burst<Q::Packet> = packets.by_ref().take(dataplane::io::BURST).collect();
        taken += queue.transmit(&mut burst);
        assert!(burst.is_empty(), "the burst is gone, sent or not");
    }
    taken
}

/// Runs a program that must succeed.
pub(crate) fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output =
        Command::new(words.next().expect("a program")).args(words).output().expect("the program exists");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A veth pair of this test's namespace, up, without the offloads that hand over unfinished frames.
pub(crate) fn veth() {
    run("ip link add near type veth peer name far");
    for end in ["near", "far"] {
        run(&format!("ethtool -K {end} tx off tso off gso off gro off"));
        run(&format!("ip link set {end} up"));
    }
}

/// A raw socket on an interface: the world outside the port.
pub(crate) struct RawSocket(libc::c_int);

impl RawSocket {
    pub(crate) fn bind(interface: &str) -> Self {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let name = CString::new(interface).expect("no zero byte");
        // SAFETY: plain system calls; the name is terminated, and the structures are initialised and as long as said.
        unsafe {
            let index = libc::if_nametoindex(name.as_ptr());
            assert_ne!(index, 0, "interface {interface} exists");
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol));
            assert!(socket >= 0, "{}", io::Error::last_os_error());
            let mut address: libc::sockaddr_ll = mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index.cast_signed();
            let length = mem::size_of_val(&address) as u32;
            assert_eq!(libc::bind(socket, (&raw const address).cast(), length), 0);
            let timeout = libc::timeval { tv_sec: 5, tv_usec: 0 };
            let length = mem::size_of_val(&timeout) as u32;
            let option = libc::SO_RCVTIMEO;
            assert_eq!(
                libc::setsockopt(socket, libc::SOL_SOCKET, option, (&raw const timeout).cast(), length),
                0
            );
            Self(socket)
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: the socket is open and the buffer as long as said.
        let sent = unsafe { libc::send(self.0, frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len().cast_signed(), "{}", io::Error::last_os_error());
    }

    /// The next experiment frame that arrived (not one of our own on its way out); `None` after five seconds.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        loop {
            let mut buffer = vec![0; 4096];
            // SAFETY: all zeroes is a valid address.
            let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
            let mut length = mem::size_of_val(&from) as u32;
            // SAFETY: the socket is open, and both buffers are as long as said.
            let received = unsafe {
                let (address, buffer) = (&raw mut from, buffer.as_mut_ptr());
                libc::recvfrom(self.0, buffer.cast(), 4096, 0, address.cast(), &raw mut length)
            };
            buffer.truncate(usize::try_from(received).ok()?);
            if from.sll_pkttype != libc::PACKET_OUTGOING && buffer.get(12..14) == Some(&ETHERTYPE[..]) {
                return Some(buffer);
            }
        }
    }
}

impl Drop for RawSocket {
    fn drop(&mut self) {
        // SAFETY: the socket is ours and closed once.
        unsafe { libc::close(self.0) };
    }
}
