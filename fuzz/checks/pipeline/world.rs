//! A balancer whose packets remember what they were.

use super::super::bed::{self, LAN, ServiceSpec, WAN, secret, spec, tunnelled, two_arm};
use super::frame;
use super::judge::Judge;
use ctl::config::{Mode, Mss, Ports, Protocol, Scheduler as Kind, Tunnel};
use dataplane::affinity::{Affinity, Clients};
use dataplane::counters::WorkerCounters;
use dataplane::io::{Burst, Queue};
use dataplane::packet::{Packet, VecPacket};
use dataplane::pipeline::{Pipeline, Settings};
use dataplane::route::NextHop;
use dataplane::scheduler::{self, Candidate, MaglevParameters};
use dataplane::snapshot::{Parts, Snapshot};
use dataplane::steering::{Spread, Steering};
use dataplane::vlan::Place;
use dataplane::worker::{self, Command, ControlEnd, Worker};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// GUE's port.
pub const GUE: u16 = 6080;

/// The VLAN of the LAN, in the layout that has one.
const VLAN: u16 = 7;

/// Where a frame's EtherType is, and its tag, if it has one.
const TYPE_AT: usize = 12;

/// A small table, quickly built.
const MAGLEV: MaglevParameters = MaglevParameters { seed: 0, table_size: 251 };

/// Connections in each table: few, so that they are often full.
const CONNECTIONS: usize = 24;

/// A service of the balancer.
pub struct Known {
    pub vip: &'static str,
    pub tcp: bool,
    mode: Mode,
    tunnel: Option<(Tunnel, bool)>,
    kind: Kind,
    backends: &'static [&'static str],
}

impl Known {
    pub fn v6(&self) -> bool {
        self.vip.contains(':')
    }

    pub fn end(&self) -> frame::End {
        (self.vip.parse().expect("an address"), 80)
    }

    /// Addresses of the backends, with the ports that they have of their own.
    pub fn hosts(&self) -> impl Iterator<Item = (IpAddr, Option<u16>)> {
        self.backends.iter().map(|backend| match backend.parse::<SocketAddr>() {
            Ok(socket) => (socket.ip(), Some(socket.port())),
            Err(_) => (backend.parse().expect("an address"), None),
        })
    }

    /// Whether packets stay as they are.
    pub fn is_direct(&self) -> bool {
        self.mode == Mode::Dsr
    }

    /// Whether backends see the client's address, as far as it is no backend itself.
    pub fn keeps_client(&self) -> bool {
        self.mode != Mode::FullNat
    }

    fn spec(&self, mss: Option<Mss>) -> ServiceSpec {
        let protocol = if self.tcp { Protocol::Tcp } else { Protocol::Udp };
        let base = match self.tunnel {
            Some(tunnel) => tunnelled(self.vip, protocol, tunnel, &[], self.backends),
            None => spec(self.vip, protocol, self.mode, self.backends),
        };
        let affinity = Affinity { timeout: 10_000, prefix_v4: 32, prefix_v6: 128 };
        let affinity = (self.kind == Kind::LeastConnections).then_some(affinity);
        ServiceSpec { scheduler: self.kind, affinity, mss, ..base }
    }
}

const B4: &[&str] = &["10.1.0.11:8080", "10.1.0.12:8080"];
const B6: &[&str] = &["[2001:db8:1::11]:8080", "[2001:db8:1::12]:8080"];
const D4: &[&str] = &["10.1.0.11", "10.1.0.13"];
const D6: &[&str] = &["2001:db8:1::11", "2001:db8:1::13"];
const MIXED: &[&str] = &["10.1.0.14", "2001:db8:1::14"];

const fn known(
    vip: &'static str,
    tcp: bool,
    mode: Mode,
    kind: Kind,
    backends: &'static [&'static str],
) -> Known {
    Known { vip, tcp, mode, tunnel: None, kind, backends }
}

const fn through(vip: &'static str, tcp: bool, kind: Tunnel, direct: bool) -> Known {
    let (mode, scheduler) = (Mode::Dsr, Kind::RoundRobin);
    Known { vip, tcp, mode, tunnel: Some((kind, direct)), kind: scheduler, backends: MIXED }
}

/// Every mode, family and protocol; the backends of tunnels are of both families, those of full-nat also of another.
pub static SERVICES: [Known; 38] = [
    known("192.0.2.10", true, Mode::Nat, Kind::Maglev, B4),
    known("192.0.2.10", false, Mode::Nat, Kind::RoundRobin, B4),
    known("2001:db8:a::10", true, Mode::Nat, Kind::Maglev, B6),
    known("2001:db8:a::10", false, Mode::Nat, Kind::RoundRobin, B6),
    known("192.0.2.11", true, Mode::Nat, Kind::LeastConnections, B4),
    known("192.0.2.11", false, Mode::Nat, Kind::SourceHash, D4),
    known("2001:db8:a::11", true, Mode::Nat, Kind::LeastConnections, B6),
    known("2001:db8:a::11", false, Mode::Nat, Kind::SourceHash, D6),
    known("192.0.2.30", true, Mode::FullNat, Kind::RoundRobin, B4),
    known("192.0.2.30", false, Mode::FullNat, Kind::Maglev, B4),
    known("2001:db8:a::30", true, Mode::FullNat, Kind::RoundRobin, B6),
    known("2001:db8:a::30", false, Mode::FullNat, Kind::Maglev, B6),
    known("192.0.2.32", true, Mode::FullNat, Kind::RoundRobin, B6),
    known("192.0.2.32", false, Mode::FullNat, Kind::RoundRobin, B6),
    known("2001:db8:a::32", true, Mode::FullNat, Kind::RoundRobin, B4),
    known("2001:db8:a::32", false, Mode::FullNat, Kind::RoundRobin, B4),
    known("192.0.2.34", true, Mode::FullNat, Kind::Maglev, MIXED),
    known("2001:db8:a::34", false, Mode::FullNat, Kind::LeastConnections, MIXED),
    known("192.0.2.20", true, Mode::Dsr, Kind::Maglev, D4),
    known("192.0.2.20", false, Mode::Dsr, Kind::LeastConnections, D4),
    known("2001:db8:a::20", true, Mode::Dsr, Kind::Maglev, D6),
    known("2001:db8:a::20", false, Mode::Dsr, Kind::LeastConnections, D6),
    through("192.0.2.40", true, Tunnel::Ipip, true),
    through("192.0.2.40", false, Tunnel::Ipip, true),
    through("2001:db8:a::40", true, Tunnel::Ipip, true),
    through("2001:db8:a::40", false, Tunnel::Ipip, true),
    through("192.0.2.42", true, Tunnel::Gue, true),
    through("192.0.2.42", false, Tunnel::Gue, true),
    through("2001:db8:a::42", true, Tunnel::Gue, true),
    through("2001:db8:a::42", false, Tunnel::Gue, true),
    through("192.0.2.44", true, Tunnel::Gue, false),
    through("192.0.2.44", false, Tunnel::Gue, false),
    through("2001:db8:a::44", true, Tunnel::Gue, false),
    through("2001:db8:a::44", false, Tunnel::Gue, false),
    through("192.0.2.46", true, Tunnel::Gre, true),
    through("192.0.2.46", false, Tunnel::Gre, true),
    through("2001:db8:a::46", true, Tunnel::Gre, true),
    through("2001:db8:a::46", false, Tunnel::Gre, true),
];

/// Next hops: gateways, backends, a client on the link.
const HOPS: [(u8, &str); 12] = [
    (WAN, "10.0.0.1"),
    (WAN, "2001:db8::1"),
    (LAN, "10.1.0.11"),
    (LAN, "10.1.0.12"),
    (LAN, "10.1.0.13"),
    (LAN, "10.1.0.14"),
    (LAN, "2001:db8:1::11"),
    (LAN, "2001:db8:1::12"),
    (LAN, "2001:db8:1::13"),
    (LAN, "2001:db8:1::14"),
    (WAN, "10.0.0.77"),
    (WAN, "2001:db8::77"),
];

/// Those that are known at first.
const KNOWN: usize = 10;

/// A packet, and which one it was on arrival.
pub struct Traced {
    packet: VecPacket,
    arrived: Option<u32>,
}

impl Packet for Traced {
    fn data(&self) -> &[u8] {
        self.packet.data()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.packet.data_mut()
    }

    fn frame_len(&self) -> usize {
        self.packet.frame_len()
    }

    fn prepend(&mut self, bytes: usize) -> Option<&mut [u8]> {
        self.packet.prepend(bytes)
    }

    fn trim_front(&mut self, bytes: usize) -> bool {
        self.packet.trim_front(bytes)
    }

    fn set_len(&mut self, bytes: usize) -> bool {
        self.packet.set_len(bytes)
    }

    fn rx_vlan(&self) -> Option<u16> {
        self.packet.rx_vlan()
    }
}

type Line = Rc<RefCell<VecDeque<Traced>>>;
type Leaving = Rc<RefCell<Vec<(u8, Traced)>>>;

/// A worker's end of a port.
struct Cable {
    port: u8,
    arriving: Line,
    leaving: Leaving,
}

impl Queue for Cable {
    type Packet = Traced;

    fn receive(&mut self, burst: &mut Burst<Traced>) {
        let mut line = self.arriving.borrow_mut();
        while !burst.is_full() {
            let Some(packet) = line.pop_front() else { break };
            burst.push(packet);
        }
    }

    fn transmit(&mut self, burst: &mut Burst<Traced>) -> usize {
        let count = burst.len();
        self.leaving.borrow_mut().extend(burst.drain(..).map(|packet| (self.port, packet)));
        count
    }

    fn allocate(&mut self) -> Option<Traced> {
        Some(Traced { packet: VecPacket::new(&[]), arrived: None })
    }
}

pub struct World {
    workers: Vec<Worker<Cable>>,
    controls: Vec<ControlEnd>,
    counters: Vec<Arc<WorkerCounters>>,
    /// By worker, then by port.
    lines: Vec<Vec<Line>>,
    leaving: Leaving,
    menu: Vec<Arc<Snapshot>>,
    /// [`HOPS`], read once.
    hops: Vec<(u8, IpAddr)>,
    /// Frames on the LAN are in this VLAN.
    vlan: Option<u16>,
    /// What the host's kernel was given.
    for_host: Vec<u8>,
    now: u32,
    inputs: u32,
    /// Frames that are to arrive before the workers work.
    patience: usize,
    judge: Judge,
    /// Neighbours or snapshot are not as at first.
    changed: bool,
}

/// Gives every service the schedulers of the backends that `keep` says stay.
fn only(parts: &mut Parts, keep: impl Fn(u32) -> bool) {
    let all: Vec<(u32, dataplane::snapshot::Backend)> =
        (0..).zip(&parts.backends).filter_map(|(slot, backend)| Some((slot, (*backend)?))).collect();
    for (index, (service, known)) in parts.services.iter_mut().zip(&SERVICES).enumerate() {
        let candidates: Vec<Candidate> = all
            .iter()
            .filter(|(slot, backend)| backend.service as usize == index && keep(*slot))
            .map(|&(slot, backend)| {
                let (address, port) = (backend.address, backend.port.unwrap_or(0));
                Candidate { slot, address, port, weight: 100 }
            })
            .collect();
        service.scheduler = scheduler::build(known.kind, &candidates, MAGLEV);
    }
    for (slot, backend) in (0..).zip(&mut parts.backends) {
        if let Some(backend) = backend {
            backend.serving = keep(slot);
        }
    }
}

/// What the balancer may be told to do.
fn menu() -> Vec<Parts> {
    let with = |mss| {
        let mut parts = two_arm(&SERVICES.iter().map(|known| known.spec(mss)).collect::<Vec<_>>());
        only(&mut parts, |_| true);
        for (service, known) in parts.services.iter_mut().zip(&SERVICES) {
            service.resets_unknown |= known.mode == Mode::Nat && known.kind == Kind::Maglev;
        }
        parts.ports[usize::from(LAN)].host = Some(500);
        // Connections between families may outlive their backends.
        parts.crossings = Snapshot::new(parts.clone()).crossings().to_vec();
        parts
    };
    let base = with(None);
    let mut menu = vec![base.clone()];
    // Half of the backends are drained, removed, and reset.
    let mut drained = base.clone();
    only(&mut drained, |slot| slot % 2 == 0);
    menu.push(drained.clone());
    for backend in drained.backends.iter_mut().flatten().filter(|backend| !backend.serving) {
        backend.removed = true;
    }
    menu.push(drained);
    let mut resetting = base.clone();
    only(&mut resetting, |slot| slot % 2 == 1);
    resetting.resetting = (0..base.backends.len() as u32).step_by(2).collect();
    menu.push(resetting);
    let mut nobody = base.clone();
    only(&mut nobody, |_| false);
    menu.push(nobody);
    let mut small = with(Some(Mss::Auto));
    small.ports[usize::from(LAN)].mtu = 1280;
    menu.push(small);
    let mut alone = base.clone();
    alone.services.clear();
    for backend in alone.backends.iter_mut().flatten() {
        (backend.removed, backend.serving) = (true, false);
    }
    alone.ports[usize::from(WAN)].host = Some(40);
    menu.push(alone);
    // Without a way back.
    let mut lost = base;
    lost.routes.clear();
    lost.ports[usize::from(LAN)].host = None;
    menu.push(lost);
    for (parts, generation) in menu.iter_mut().zip(1..) {
        parts.generation = generation;
    }
    menu
}

/// Who owns connections: workers by number, by secret hash or by a known one.
fn steering(layout: usize) -> Steering {
    let spread = || {
        let key: [u8; 40] = std::array::from_fn(|n| (n * 91 + 17) as u8);
        Spread::new(&key, vec![0, 1]).expect("a good key")
    };
    let steering = match layout {
        0 => Steering::keyed(1, secret()),
        1 => Steering::keyed(3, secret()),
        2 | 4 => Steering::one_end(2, secret(), spread()),
        _ => Steering::both_ends(2, secret(), spread()),
    };
    // Few, so that they are sometimes used up.
    steering.with_local_ports(Ports::new(40_000, 40_031).expect("ports"))
}

impl World {
    pub const LAYOUTS: usize = 5;
    /// Snapshots to choose from.
    pub const MENU: usize = 8;
    /// Inputs after which workers are made anew.
    pub const FRESH: u32 = 10_000;
    /// Beyond every timeout, in milliseconds.
    const AGES: u32 = 8_000_000;

    pub fn new(layout: usize) -> Self {
        let steering = Arc::new(steering(layout));
        let workers = steering.workers();
        let clients = Clients::new(workers, CONNECTIONS, secret());
        let leaving = Leaving::default();
        let vlan = (layout == 4).then_some(VLAN);
        let places = [Place { device: WAN, vlan: None }, Place { device: LAN, vlan }];
        let menu: Vec<Arc<Snapshot>> =
            menu().into_iter().map(|parts| Arc::new(Snapshot::new(parts))).collect();
        assert_eq!(menu.len(), Self::MENU);
        let mut world = Self {
            workers: Vec::new(),
            controls: Vec::new(),
            counters: Vec::new(),
            lines: Vec::new(),
            leaving: Rc::clone(&leaving),
            menu,
            hops: HOPS.iter().map(|&(port, hop)| (port, hop.parse().expect("an address"))).collect(),
            vlan,
            for_host: Vec::new(),
            now: 0,
            inputs: 0,
            patience: 0,
            judge: Judge::default(),
            changed: true,
        };
        for (number, mesh) in (0u8..).zip(worker::mesh(workers.into())) {
            let counters = Arc::new(WorkerCounters::with_backends(128));
            let pipeline = Pipeline::new(Settings {
                worker: number,
                steering: Arc::clone(&steering),
                max_connections: CONNECTIONS,
                large_pages: false,
                secret: secret(),
                maglev: MAGLEV,
                clients: Arc::clone(&clients),
                counters: Arc::clone(&counters),
            })
            .expect("memory");
            let lines = vec![Line::default(), Line::default()];
            let cable = |(port, line): (u8, &Line)| Cable {
                port,
                arriving: Rc::clone(line),
                leaving: leaving.clone(),
            };
            let queues = (0..).zip(&lines).map(cable).collect();
            let (control, worker_end) = worker::channel();
            world.workers.push(Worker::new(queues, pipeline, mesh, worker_end).with_vlans(&places));
            world.controls.push(control);
            world.counters.push(counters);
            world.lines.push(lines);
        }
        world
    }

    /// Before an input: the first snapshot, and all neighbours known.
    pub fn begin(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.tell_snapshot(0);
            for hop in 0..HOPS.len() {
                self.tell_neighbor(hop, hop < KNOWN);
            }
        }
        self.patience = 0;
        self.settle();
        self.judge.forget();
    }

    /// After an input: whatever waits is given up, and every connection is forgotten.
    pub fn end(&mut self) {
        // Twice: what is only found to be over when time goes on is over a while later.
        for _ in 0..2 {
            self.now = self.now.wrapping_add(Self::AGES);
            self.settle();
        }
        for worker in &self.workers {
            assert_eq!(worker.pipeline().connections(), 0, "every connection is over some day");
        }
        let held: u64 = self.counters.iter().map(|counters| counters.held.get()).sum();
        assert_eq!(held, 0, "nothing is held for ever");
        let active = |counters: &Arc<WorkerCounters>| {
            counters
                .backends
                .iter()
                .map(|backend| backend.connections_active.get() + backend.entries.get())
                .sum::<u64>()
        };
        assert_eq!(self.counters.iter().map(active).sum::<u64>(), 0, "nor counted");
        self.inputs += 1;
    }

    pub fn is_worn(&self) -> bool {
        self.inputs >= Self::FRESH
    }

    pub fn set_patience(&mut self, frames: usize) {
        self.patience = frames;
    }

    /// Time passes.
    pub fn pass(&mut self, milliseconds: u32) {
        self.judge.begin_era();
        self.now = self.now.wrapping_add(milliseconds);
        self.settle();
    }

    pub fn publish(&mut self, choice: usize) {
        self.changed = true;
        self.judge.begin_era();
        self.tell_snapshot(choice);
        self.settle();
    }

    /// The hardware address of a next hop: `how` 0 has it forgotten.
    pub fn neighbor(&mut self, number: usize, how: u8) {
        self.changed = true;
        self.judge.begin_era();
        self.tell_neighbor(number % HOPS.len(), how != 0);
        self.settle();
    }

    fn tell_snapshot(&mut self, choice: usize) {
        for control in &mut self.controls {
            control.send(Command::Publish(Arc::clone(&self.menu[choice]))).expect("room");
        }
    }

    fn tell_neighbor(&mut self, number: usize, known: bool) {
        let (port, address) = self.hops[number];
        let mac = known.then(|| bed::mac_of(address));
        for control in &mut self.controls {
            control.send(Command::Neighbor { hop: NextHop { port, address }, mac }).expect("room");
        }
    }

    /// A frame arrives at a port, at some worker's queue. Two bits of `worker` say what tags it has.
    pub fn send(&mut self, port: u8, worker: u8, frame: Vec<u8>) {
        let vlan = self.vlan.filter(|_| port == LAN);
        let tagged = |mut frame: Vec<u8>, ethertype: u16, control: u16| {
            if frame.len() >= TYPE_AT {
                let tag = [ethertype.to_be_bytes(), control.to_be_bytes()].concat();
                frame.splice(TYPE_AT..TYPE_AT, tag);
            }
            frame
        };
        let packet = match (worker >> 6, worker >> 3 & 7) {
            // By the switch, which has a priority for it.
            (3, 1..) if vlan.is_none() => VecPacket::new(&tagged(frame.clone(), 0x8100, 5 << 13)),
            // Taken off by the port.
            (2, _) => VecPacket::new(&frame).with_rx_vlan(5 << 13 | vlan.unwrap_or(0)),
            // By a provider's bridge.
            (3, 0) => VecPacket::new(&tagged(frame.clone(), 0x88a8, 9)),
            _ => match vlan {
                Some(vlan) => VecPacket::new(&tagged(frame.clone(), 0x8100, vlan)),
                None => VecPacket::new(&frame),
            },
        };
        let line = &self.lines[usize::from(worker) % self.workers.len()][usize::from(port)];
        let arrived = Some(self.judge.arrived(port, frame));
        line.borrow_mut().push_back(Traced { packet, arrived });
        if self.patience == 0 {
            self.settle();
        } else {
            self.patience -= 1;
        }
    }

    /// The host's kernel sends a frame, by some worker.
    pub fn send_from_host(&mut self, port: u8, worker: u8, frame: &[u8]) {
        let number = usize::from(worker) % self.controls.len();
        self.controls[number].send_from_host(port, frame);
        self.settle();
    }

    /// The last frame that arrived.
    pub fn last_sent(&self) -> Option<(u8, Vec<u8>)> {
        self.judge.last_arrived()
    }

    /// One of the last frames that left by `port`.
    pub fn left(&self, port: u8, number: u8) -> Option<&(u8, Vec<u8>)> {
        self.judge.left(port, number)
    }

    /// All that can be done now is done, and checked.
    pub fn settle(&mut self) {
        while self.workers.iter_mut().map(|worker| worker.turn(self.now)).sum::<usize>() > 0 {}
        for control in &mut self.controls {
            while control.receive().is_some() {}
            while control.receive_answer().is_some() {}
            while control.receive_for_host(&mut self.for_host).is_some() {
                assert!(self.for_host.len() >= TYPE_AT, "the host gets whole frames");
            }
        }
        let leaving = std::mem::take(&mut *self.leaving.borrow_mut());
        for (port, mut packet) in leaving {
            if let Some(vlan) = self.vlan.filter(|_| port == LAN) {
                let data = packet.data_mut();
                let tag = [0x8100u16.to_be_bytes(), vlan.to_be_bytes()].concat();
                assert_eq!(data[TYPE_AT..TYPE_AT + 4], tag, "it leaves with the tag of its port");
                data.copy_within(..TYPE_AT, 4);
                assert!(packet.trim_front(4));
            }
            self.judge.judge(packet.arrived, port, packet.data());
        }
        self.balance();
    }

    /// Both conservation equations of ARCHITECTURE.md.
    fn balance(&self) {
        let total =
            |counter: fn(&WorkerCounters) -> u64| self.counters.iter().map(|c| counter(c)).sum::<u64>();
        let (forwarded, rx) = (total(|c| c.forwarded.get()), total(|c| c.rx_packets.get()));
        let rest = total(|c| c.consumed.get() + c.punted.get() + c.held.get());
        assert_eq!(rx, forwarded + rest + total(WorkerCounters::dropped_total), "what came is accounted for");
        let tx = total(|c| c.tx_packets.get());
        assert_eq!(tx, forwarded + total(|c| c.generated.get()), "what left is accounted for");
    }
}
