//! All checks: which are due, and what their outcomes change.

use super::super::balancer::Balancer;
use super::super::model::{Model, Service};
use super::super::neighbors::{Look, Millis};
use super::exchange::{Outgoing, Way};
use super::probe::Question;
use super::schedule::Rhythm;
use super::tls;
use crate::control::events::About;
use crate::control::{frames, slots};
use crate::packet::{Packet, VecPacket};
use crate::snapshot::Port;
use crate::tunnel;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::protocol;
use crate::worker::{PROBE_FRAME, Probe};
use arrayvec::ArrayVec;
use ctl::api::EventKind;
use ctl::config::{self, Config, ConfigError, Mode};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a check whose next hop is being asked for is looked at again.
const SOON: Millis = 5;
/// Time between two looks at what clients' connections say.
const PASSIVE: Millis = 1000;
/// A check that takes this much longer than its timeout is gone.
const GONE: Millis = 5000;

/// What is asked of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spec {
    health: Arc<config::Health>,
    /// Where the packets are addressed to, and where they are taken.
    remote: IpAddr,
    towards: IpAddr,
    port: u16,
}

impl Spec {
    fn of(service: &config::Service, health: &Arc<config::Health>, backend: &config::Backend) -> Self {
        let towards = backend.address.ip;
        Self {
            health: Arc::clone(health),
            // The backend holds the VIP, and it is there that clients' packets must be taken. Of a prefix, the first.
            remote: if service.mode == Mode::Dsr { service.vip.address() } else { towards },
            towards,
            // Without one (an echo request) none is needed.
            port: health.port_on(service, backend).unwrap_or(0),
        }
    }
}

#[derive(Debug)]
struct Check {
    /// No other check had or will have it: an outcome that comes late is known by it.
    serial: u64,
    spec: Spec,
    tls: Option<tls::Client>,
    /// Position of its service, and of its backend there.
    place: (usize, usize),
    rhythm: Rhythm,
    due: Millis,
    /// It is due out of turn: new, or because of what clients' connections say.
    out_of_turn: bool,
    /// Under way since.
    begun: Option<Millis>,
    seen: Seen,
}

/// Counted for a backend, when last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    failures: u64,
    connections: u64,
}

/// All checks, by the slots of their backends.
#[derive(Debug, Default)]
pub(in crate::control) struct Checks {
    list: HashMap<u32, Check>,
    due: BTreeSet<(Millis, u32)>,
    serial: u64,
    passive_at: Millis,
}

/// A check to be made.
#[derive(Debug)]
pub(in crate::control) struct Job {
    pub(super) slot: u32,
    pub(super) serial: u64,
    pub(super) question: Question,
}

/// How a check ended.
#[derive(Debug)]
pub(in crate::control) struct Outcome {
    pub(super) slot: u32,
    pub(super) serial: u64,
    pub(super) result: Result<(), String>,
    pub(super) took: Duration,
}

/// What TLS needs for `config`.
///
/// # Errors
/// The files that cannot be used.
pub(in crate::control) fn prepare(config: &Config) -> Result<Prepared, Vec<ConfigError>> {
    tls::Clients::of(config).map(Prepared)
}

/// What was read from files for the checks of a configuration.
#[derive(Debug)]
pub(in crate::control) struct Prepared(tls::Clients);

impl Checks {
    /// Takes up the checks of `model`; those that are as before go on undisturbed, others begin at once. Whoever has
    /// another check than before keeps the verdict until that says otherwise.
    pub(in crate::control) fn take_up(&mut self, model: &mut Model, prepared: &Prepared, now: Millis) {
        let mut before = std::mem::take(&mut self.list);
        for (at, service) in model.services.iter_mut().enumerate() {
            let Some(health) = service.config.health.clone().map(Arc::new) else { continue };
            let tls = prepared.0.get(&health);
            for (number, backend) in service.backends.iter_mut().enumerate() {
                let spec = Spec::of(&service.config, &health, &backend.config);
                let known = before.remove(&backend.slot);
                let mut check = match known {
                    Some(check) if check.spec == spec => check,
                    _ => {
                        if let Some(health) = &mut backend.health {
                            health.standing.start_over();
                        }
                        self.begin(spec, backend.slot, now)
                    }
                };
                check.place = (at, number);
                check.tls.clone_from(&tls);
                self.list.insert(backend.slot, check);
            }
        }
        self.due = self.list.iter().map(|(&slot, check)| (check.due, slot)).collect();
    }

    fn begin(&mut self, spec: Spec, slot: u32, now: Millis) -> Check {
        self.serial += 1;
        let seed = self.serial << 32 | u64::from(slot);
        Check {
            serial: self.serial,
            rhythm: Rhythm::new(spec.health.interval.as_millis(), spec.health.jitter, seed),
            spec,
            tls: None,
            place: (0, 0),
            due: now,
            out_of_turn: true,
            begun: None,
            seen: Seen { failures: u64::MAX, connections: u64::MAX },
        }
    }

    fn set_due(&mut self, slot: u32, due: Millis) {
        if let Some(check) = self.list.get_mut(&slot) {
            self.due.remove(&(check.due, slot));
            check.due = due;
            self.due.insert((due, slot));
        }
    }

    /// The check of `slot` is made now: the next is due in its time.
    fn start(&mut self, slot: u32, now: Millis) {
        let Some(check) = self.list.get_mut(&slot) else { return };
        let out_of_turn = std::mem::take(&mut check.out_of_turn);
        let next = if out_of_turn { check.rhythm.next_but_not_at_once(now) } else { check.rhythm.next(now) };
        self.set_due(slot, next);
    }

    /// The check of `slot` is wanted now, whatever its time.
    fn hurry(&mut self, slot: u32, now: Millis) {
        if let Some(check) = self.list.get_mut(&slot).filter(|check| check.begun.is_none()) {
            check.out_of_turn = true;
            self.set_due(slot, now);
        }
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.due.first().map(|&(due, _)| due)
    }
}

impl Balancer {
    /// The checks that are due, at most `room`.
    pub(super) fn due_checks(&mut self, room: usize) -> Vec<Job> {
        let now = self.now();
        let (mut jobs, mut outcomes, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        while jobs.len() < room {
            let Some(&(due, slot)) = self.checks.due.first() else { break };
            if due > now {
                break;
            }
            let Some(check) = self.checks.list.get(&slot) else {
                self.checks.due.pop_first();
                continue;
            };
            let limit = check.spec.health.timeout.as_millis() + GONE;
            if check.begun.is_some_and(|begun| now < begun + limit) {
                self.checks.start(slot, now);
                continue;
            }
            let (serial, spec, tls) = (check.serial, check.spec.clone(), check.tls.clone());
            let mut fail = |reason: String| {
                outcomes.push(Outcome { slot, serial, result: Err(reason), took: Duration::ZERO });
            };
            let hop = match self.snapshot.next_hop(spec.towards) {
                Some(hop) if !self.snapshot.is_local(spec.towards) => hop,
                Some(_) => {
                    fail(format!("{} is the balancer's own address", spec.towards));
                    self.checks.start(slot, now);
                    continue;
                }
                None => {
                    fail(format!("no route to {}", spec.towards));
                    self.checks.start(slot, now);
                    continue;
                }
            };
            let port = self.snapshot.ports().get(usize::from(hop.port));
            match (self.neighbors.look(hop), port.and_then(|port| Some((port, source(port, &spec)?)))) {
                (_, None) => {
                    let family = if spec.remote.is_ipv6() { "IPv6" } else { "IPv4" };
                    fail(format!("port {} has no {family} address to ask from", self.port_name(hop.port)));
                    self.checks.start(slot, now);
                }
                (Look::Asking, _) => self.checks.set_due(slot, now + SOON),
                (Look::Unknown, _) => {
                    self.neighbors.wanted(now, hop, &mut actions);
                    self.checks.set_due(slot, now + SOON);
                }
                (Look::Silent, _) => {
                    self.neighbors.wanted(now, hop, &mut actions);
                    let question = if hop.address.is_ipv6() { "neighbour discovery" } else { "ARP" };
                    let who = hop.address;
                    fail(format!("{who} does not answer {question}"));
                    self.checks.start(slot, now);
                }
                (Look::Known(_), Some((port, local))) => {
                    let question = Question {
                        health: spec.health,
                        tls,
                        local,
                        remote: spec.remote,
                        port: spec.port,
                        way: Way { hop, slot },
                        mtu: largest(port, self.snapshot.tunnel(slot)),
                    };
                    self.checks.start(slot, now);
                    if let Some(check) = self.checks.list.get_mut(&slot) {
                        check.begun = Some(now);
                    }
                    jobs.push(Job { slot, serial, question });
                }
            }
        }
        self.act(actions);
        self.hear_outcomes(outcomes);
        jobs
    }

    /// How long nothing is due.
    pub(super) fn until_next_check(&self) -> Option<Duration> {
        let due = self.checks.next_due()?;
        Some(Duration::from_millis(due.saturating_sub(self.now())))
    }

    /// Takes outcomes into account.
    pub(super) fn hear_outcomes(&mut self, outcomes: Vec<Outcome>) {
        for Outcome { slot, serial, result, took } in outcomes {
            let Some(check) = self.checks.list.get_mut(&slot).filter(|check| check.serial == serial) else {
                continue;
            };
            check.begun = None;
            let place = check.place;
            self.hear_outcome(slot, place, &result, Some(took));
        }
    }

    /// One outcome for the backend in `slot`, which is at `place` in the model.
    fn hear_outcome(
        &mut self,
        slot: u32,
        place: (usize, usize),
        result: &Result<(), String>,
        took: Option<Duration>,
    ) {
        let Some(service) = self.model.services.get_mut(place.0) else { return };
        let Service { config, backends, .. } = service;
        let (Some(check), Some(backend)) = (&config.health, backends.get_mut(place.1)) else { return };
        let Some(health) = backend.health.as_mut().filter(|_| backend.slot == slot) else { return };
        let changed = health.standing.hear(result.is_ok(), check.rise, check.fall);
        match result {
            Ok(()) => {
                health.detail = "".into();
                health.took = took;
            }
            Err(reason) if *health.detail != **reason => health.detail = reason.as_str().into(),
            Err(_) => {}
        }
        if !changed {
            return;
        }
        health.since = Instant::now();
        self.changed = true;
        let address = backend.config.address;
        let (kind, what) = match result {
            Ok(()) => (EventKind::HealthUp, "up".to_owned()),
            Err(reason) => (EventKind::HealthDown, format!("down: {reason}")),
        };
        let message = format!("backend {address} of service {:?} is {what}", config.name);
        self.events.record(kind, About::backend(&config.name, address), message);
    }

    /// What clients' connections said in the last second: where most new ones got no answer or a reset, that is a
    /// failed check, and the next one comes at once.
    pub(in crate::control) fn hear_clients(&mut self) {
        let now = self.now();
        if now.saturating_sub(self.checks.passive_at) < PASSIVE {
            return;
        }
        self.checks.passive_at = now;
        let workers = self.links.counters();
        let mut suspects = Vec::new();
        for (&slot, check) in self.checks.list.iter_mut().filter(|(_, check)| check.spec.health.passive) {
            let seen = Seen {
                failures: slots::sum(&workers, slot, |counters| &counters.failures),
                connections: slots::sum(&workers, slot, |counters| &counters.connections_total),
            };
            let before = std::mem::replace(&mut check.seen, seen);
            if before.failures == u64::MAX {
                continue;
            }
            let failures = seen.failures.wrapping_sub(before.failures);
            let connections = seen.connections.wrapping_sub(before.connections);
            // One that answers nobody is asked again by the same clients: such failures have no new connection.
            if failures > 0 && failures * 2 >= connections {
                suspects.push((slot, check.place, failures));
            }
        }
        for (slot, place, failures) in suspects {
            let backend = self.model.services.get(place.0).and_then(|service| service.backends.get(place.1));
            let up = backend.and_then(|backend| backend.health.as_ref()).is_some_and(super::Health::is_up);
            if up {
                let what = if failures == 1 { "connection" } else { "connections" };
                let reason = format!("{failures} {what} of clients unanswered or reset in a second");
                self.hear_outcome(slot, place, &Err(reason), None);
                self.checks.hurry(slot, now);
            }
        }
    }

    /// Brings answers to their checks, and sends what checks have to say. Returns whether any is under way.
    pub(in crate::control) fn carry_probes(&mut self) -> bool {
        let exchange = Arc::clone(&self.exchange);
        let Self { links, hosts, .. } = self;
        links.answers(|port, frame| {
            // The host pings by whatever identifier it likes.
            if let Some(protocol::ICMP | protocol::ICMPV6) = exchange.deliver(frame) {
                hosts.give(port, frame);
            }
        });
        let mut actions = Vec::new();
        for outgoing in exchange.take() {
            let hop = outgoing.way.hop;
            let Look::Known(mac) = self.neighbors.look(hop) else {
                self.neighbors.wanted(self.now(), hop, &mut actions);
                continue;
            };
            let port = self.snapshot.ports().get(usize::from(hop.port));
            let tunnel = self.snapshot.tunnel(outgoing.way.slot);
            if let Some(probe) = port.and_then(|port| framed(port, mac, hop.port, tunnel, &outgoing)) {
                self.links.send_probe(probe);
            }
        }
        self.act(actions);
        exchange.is_busy()
    }
}

/// The port's address that `spec` is asked from: of the family of the packets, near the backend if there is one.
fn source(port: &Port, spec: &Spec) -> Option<IpAddr> {
    let family = || port.addresses.iter().filter(|own| own.address().is_ipv6() == spec.remote.is_ipv6());
    let near = family().find(|own| own.subnet().contains(spec.towards));
    near.or_else(|| family().next()).map(|own| own.address())
}

/// The largest packet of a check that leaves by `port`, with room for the tunnel around it.
fn largest(port: &Port, tunnel: Option<&tunnel::Way>) -> u16 {
    let frame = port.mtu.min((PROBE_FRAME - ethernet::LEN) as u16);
    frame.saturating_sub(tunnel.map_or(0, tunnel::Way::overhead) as u16)
}

/// The frame of a packet on its way out, in the tunnel to its backend if there is one.
fn framed(
    port: &Port,
    to: ethernet::Mac,
    id: crate::route::PortId,
    tunnel: Option<&tunnel::Way>,
    outgoing: &Outgoing,
) -> Option<Probe> {
    let mut packet = VecPacket::new(&[&[0; ethernet::LEN], &*outgoing.packet].concat());
    if let Some(tunnel) = tunnel {
        tunnel.apply(&mut packet, outgoing.hash).ok()?;
    }
    let kind = match packet.data().get(ethernet::LEN)? >> 4 {
        4 => ethertype::IPV4,
        _ => ethertype::IPV6,
    };
    ethernet::emit(packet.data_mut(), to, port.mac, kind).ok()?;
    let mut frame = ArrayVec::<u8, PROBE_FRAME>::new();
    frame.try_extend_from_slice(packet.data()).ok()?;
    while frame.len() < frames::MIN_FRAME {
        frame.push(0);
    }
    Some(Probe { port: id, frame })
}
