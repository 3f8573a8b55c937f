//! Packets really pass, through every software driver, with and without hugepages.

use crate::bench::{RawSocket, frame, isolated, open, packet, pool, receive, run, start, transmit, veth};
use dataplane::io::dpdk::{Port, PortConfig, QueuePair, open_ports};
use dataplane::io::{BURST, Burst, Queue};
use dataplane::packet::Packet;
use std::fs;
use std::time::{Duration, Instant};

const FRAMES: u8 = 100;

/// A port answers every frame that a raw socket sends it, with the first bytes changed. Returns how many buffers are still
/// out when it is closed.
fn echoes(hugepages: bool, device: &str, interface: &str, make_interface: impl FnOnce()) -> u32 {
    make_interface();
    let eal = start(hugepages);
    let pool = pool(&eal);
    let (port, mut queue) = open(&eal, &pool, device);
    let outside = RawSocket::bind(interface);
    if port.capabilities().driver == "net_tap" {
        run(&format!("ip link set {interface} up"));
    }

    for number in 0..FRAMES {
        outside.send(&frame(number, 60 + usize::from(number)));
    }
    let mut packets = receive(&mut queue, FRAMES.into());
    assert_eq!(packets.len(), usize::from(FRAMES));
    for (number, packet) in (0..FRAMES).zip(&mut packets) {
        assert_eq!(packet.data(), frame(number, 60 + usize::from(number)));
        assert_eq!(packet.frame_len(), packet.data().len());
        packet.data_mut()[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 2]);
    }
    assert_eq!(transmit(&mut queue, packets), usize::from(FRAMES));
    for number in 0..FRAMES {
        let back = outside.receive().expect("the frame comes back");
        assert_eq!((&back[..6], &back[6..]), (&[2, 0, 0, 0, 0, 2][..], &frame(number, back.len())[6..]));
    }
    let stats = port.stats().expect("counters");
    assert!(stats.rx_packets >= FRAMES.into() && stats.tx_packets == u64::from(FRAMES), "{stats:?}");
    assert!(port.link().up);
    assert!(!port.extended_stats().is_empty());
    assert_ne!(port.capabilities().mac, [0; 6]);

    drop((port, queue));
    pool.in_use()
}

#[test]
fn af_packet() {
    isolated("ports::af_packet", || assert_eq!(echoes(false, "net_af_packet0,iface=near", "far", veth), 0));
}

#[test]
fn af_packet_on_hugepages() {
    isolated("ports::af_packet_on_hugepages", || {
        assert_eq!(echoes(true, "net_af_packet0,iface=near", "far", veth), 0);
    });
}

#[test]
fn af_xdp() {
    isolated("ports::af_xdp", || {
        // When it closes, this driver leaves where they are the buffers that the kernel was lent to receive into: a fill
        // ring of 2048, and a few in between.
        let lent = echoes(false, "net_af_xdp0,iface=near", "far", veth);
        assert!(lent < 2048 + 32, "{lent} buffers are lost");
    });
}

#[test]
fn tap() {
    isolated("ports::tap", || assert_eq!(echoes(false, "net_tap0,iface=near", "near", || ()), 0));
}

#[test]
fn tap_on_hugepages() {
    isolated("ports::tap_on_hugepages", || assert_eq!(echoes(true, "net_tap0,iface=near", "near", || ()), 0));
}

/// Two ports back to back over shared memory, each sending to the other.
fn vhost_and_virtio_user(hugepages: bool) {
    let eal = start(hugepages);
    let pool = pool(&eal);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("vhost");
    let (vhost, mut host) = open(&eal, &pool, &format!("net_vhost0,iface={}", socket.display()));
    let (virtio, mut guest) = open(&eal, &pool, &format!("net_virtio_user0,path={}", socket.display()));
    let deadline = Instant::now() + Duration::from_secs(5);
    while !(vhost.link().up && virtio.link().up) {
        assert!(Instant::now() < deadline, "the two sides connect");
    }

    for (from, to) in [(0, 1), (1, 0)] {
        let mut queues = [&mut host, &mut guest];
        let frames: Vec<_> = (0..FRAMES).map(|number| packet(queues[from], &frame(number, 64))).collect();
        assert_eq!(transmit(queues[from], frames), usize::from(FRAMES));
        let packets = receive(queues[to], FRAMES.into());
        let received: Vec<&[u8]> = packets.iter().map(Packet::data).collect();
        assert_eq!(received, (0..FRAMES).map(|number| frame(number, 64)).collect::<Vec<_>>());
    }
    drop((virtio, guest));
    drop((vhost, host));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn vhost_and_virtio() {
    isolated("ports::vhost_and_virtio", || vhost_and_virtio_user(false));
}

#[test]
fn vhost_and_virtio_on_hugepages() {
    isolated("ports::vhost_and_virtio_on_hugepages", || vhost_and_virtio_user(true));
}

/// The classic file format: magic number, version 2.4, and Ethernet (1).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    for frame in frames {
        let length = frame.len() as u32;
        file.extend([0, 0, length, length].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(frame);
    }
    file
}

#[test]
fn pcap_files() {
    isolated("ports::pcap_files", || {
        let folder = tempfile::tempdir().expect("a folder");
        let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
        // The last does not fit one buffer of 2048 bytes.
        let frames: Vec<_> = [64, 1514, 5000].iter().map(|&len| frame(7, len)).collect();
        fs::write(&input, pcap(&frames)).expect("written");

        let eal = start(false);
        let pool = pool(&eal);
        let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
        let (port, mut queue) = open(&eal, &pool, &device);
        let mut packets = receive(&mut queue, frames.len());
        assert_eq!(packets[1].data(), frames[1]);

        let long = &mut packets[2];
        assert_eq!((long.segments(), long.frame_len()), (3, 5000));
        assert_eq!(long.data(), &frames[2][..long.data().len()]);
        assert!(long.data().len() < 5000 && !long.set_len(60));

        assert_eq!(transmit(&mut queue, packets), frames.len());
        drop((port, queue));
        assert_eq!(pool.in_use(), 0);
        assert_eq!(fs::metadata(&output).expect("written").len(), pcap(&frames).len() as u64);
    });
}

#[test]
fn null_port_counts() {
    isolated("ports::null_port_counts", || {
        let eal = start(true);
        assert!(eal.has_hugepages());
        let pool = pool(&eal);
        let (port, mut queue) = open(&eal, &pool, "net_null0");
        let mut burst = Burst::new();
        for _ in 0..1000 {
            queue.receive(&mut burst);
            assert_eq!(burst.len(), BURST);
            assert_eq!(queue.transmit(&mut burst), BURST);
        }
        let stats = port.stats().expect("counters");
        assert_eq!((stats.rx_packets, stats.tx_packets), (32_000, 32_000));
        drop((port, queue));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_ring_port_loops_back() {
    isolated("ports::a_ring_port_loops_back", || {
        let eal = start(false);
        let pool = pool(&eal);
        let (_port, mut queue) = open(&eal, &pool, "net_ring0");
        let sent = packet(&mut queue, &frame(3, 60));
        assert_eq!(transmit(&mut queue, [sent]), 1);
        assert_eq!(receive(&mut queue, 1)[0].data(), frame(3, 60));
    });
}

#[test]
fn several_ports_and_queues_share_one_pool() {
    isolated("ports::several_ports_and_queues_share_one_pool", || {
        veth();
        let eal = start(false);
        let port = |device: &str| PortConfig { device: device.into(), queues: 2, ..PortConfig::default() };
        let configs = [port("net_null0"), port("net_af_packet0,iface=near,qpairs=2")];
        let mut ports = open_ports(&eal, &configs, 2, 1024).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ports[0].pool().capacity(), ports[1].pool().capacity());

        let queues: Vec<_> = ports.iter_mut().map(|port| port.take_queues(9)).collect();
        assert_eq!(queues.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(queues[1].iter().map(QueuePair::index).collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert!(ports[0].take_queues(1).is_empty(), "each queue is handed out once");
    });
}

#[test]
fn a_port_takes_what_is_offered_and_says_so() {
    isolated("ports::a_port_takes_what_is_offered_and_says_so", || {
        veth();
        let eal = start(false);
        let pool = pool(&eal);
        let config = PortConfig {
            device: "net_af_packet0,iface=near".into(),
            queues: 4,
            mtu: 9000,
            ..Default::default()
        };
        let mut port = Port::open(&eal, &config, &pool).unwrap_or_else(|error| panic!("{error}"));
        let offered = port.capabilities();
        assert_eq!((offered.rx_queues, offered.mtu, offered.driver.as_str()), (1, 1500, "net_af_packet"));
        assert!(offered.promiscuous && offered.rss.is_none() && !offered.rx_ipv4_checksum);
        let notices = port.notices().join("\n");
        assert!(
            notices.contains("1 RX queues for 4 workers") && notices.contains("MTU 1500 instead of 9000"),
            "{notices}"
        );
        assert!(serde_json::to_value(offered).expect("plain data")["mac"].is_array());
        assert_eq!(port.take_queues(4).len(), 1);
    });
}

#[test]
fn a_queue_keeps_its_port_open() {
    isolated("ports::a_queue_keeps_its_port_open", || {
        let eal = start(false);
        let pool = pool(&eal);
        let (port, mut queue) = open(&eal, &pool, "net_null0");
        drop((port, pool, eal));
        let mut burst = Burst::new();
        queue.receive(&mut burst);
        drop(queue);
        // The packets outlive their port, their pool's handles and the EAL's.
        assert_eq!(burst.len(), BURST);
        assert!(burst.iter().all(|packet| packet.frame_len() == 64));
    });
}
