//! The balancer as its control thread sees it: everything that may change, in one place, changed by one thread.

use super::build::{self, Ahead};
use super::device::Device;
use super::events::{About, Log};
use super::frames;
use super::health::duty::{self, Checks};
use super::health::exchange::Exchange;
use super::history::{History, Past};
use super::host::Hosts;
use super::model::{Admin, Backend, Model};
use super::neighbors::{Action, Millis, Neighbors};
use super::overrides::{self, Override};
use super::publish::Links;
use super::slots;
use crate::pipeline::Notice;
use crate::route::PortId;
use crate::scheduler::{Load, MaglevParameters};
use crate::snapshot::Snapshot;
use crate::wire::ethernet::Mac;
use ctl::api::{EventKind, Link};
use ctl::config::{BackendAddress, Config, ConfigError, ConfigWarning};
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two looks at drains and at slots to be freed.
const REVIEW: Millis = 100;
/// Least time between two looks at the loads of backends, and how many times as long as a look took.
const BALANCE: Millis = 5;
const BALANCE_SHARE: Millis = 10;
/// Least time between two snapshots that nobody asked for.
const SETTLE: Millis = 50;
/// Time between two log lines about the same kind of trouble on the network.
const QUIET: Duration = Duration::from_secs(10);

/// What a balancer is made of when it starts.
#[derive(Debug)]
pub struct Start {
    /// As read from `config_file`, and accepted by [`admit`].
    pub config: Config,
    pub config_file: PathBuf,
    /// By port.
    pub devices: Vec<Attached>,
    pub links: Links,
    /// What an operator should know about the start.
    pub notices: Vec<String>,
    /// What forwards packets, such as "DPDK 22.11".
    pub engine: String,
}

/// A port's device, ready for use.
#[derive(Debug)]
pub struct Attached {
    pub mac: Mac,
    /// Largest IP packet that it takes, in bytes.
    pub mtu: u16,
    pub device: Box<dyn Device>,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Balancer {
    pub(super) config: Config,
    pub(super) config_file: PathBuf,
    pub(super) engine: String,
    pub(super) model: Model,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) links: Links,
    pub(super) devices: Vec<Box<dyn Device>>,
    pub(super) neighbors: Neighbors,
    pub(super) notices: Vec<String>,
    pub(super) started: Instant,
    pub(super) checks: Checks,
    pub(super) exchange: Arc<Exchange>,
    pub(super) events: Arc<Log>,
    pub(super) hosts: Hosts,
    pub(super) history: History,
    /// The model is ahead of the snapshot: a backend went up or down, or has more weight.
    pub(super) changed: bool,
    committed: Millis,
    /// When schedulers next hear of loads.
    balance_at: Millis,
    /// Hardware address and largest packet, by port.
    ports: Vec<(Mac, u16)>,
    /// Whether each port's cable was in when last looked at.
    pub(super) cables: Vec<Link>,
    reviewed: Millis,
    actions: Vec<Action>,
    heard: Vec<Notice>,
    conflicts: Quiet,
    moves: Quiet,
}

/// What a configuration changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub generation: u32,
    pub changes: Vec<String>,
    /// What operators changed at run time and is still so.
    pub kept: Vec<String>,
    /// What they changed and is no longer so: the configuration has another value, or the backend not.
    pub given_up: Vec<String>,
    pub warnings: Vec<ConfigWarning>,
}

/// Why an operator's change is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Service,
    Backend,
}

/// What is right in `config` and still deserves a word.
pub fn warnings(config: &Config) -> Vec<ConfigWarning> {
    build::warnings(config)
}

/// Whether this build can run `config`.
pub fn admit(config: &Config) -> Result<(), Vec<ConfigError>> {
    let errors = build::refusals(config);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

impl Balancer {
    /// Publishes the first snapshot, generation 1.
    ///
    /// # Errors
    /// What [`Balancer::apply`] refuses.
    pub fn start(start: Start) -> Result<Self, Vec<ConfigError>> {
        let Start { config, config_file, devices, links, notices, engine } = start;
        let links_of = devices.iter().map(|attached| (attached.mac, attached.mtu)).collect();
        let devices = devices.into_iter().map(|attached| attached.device).collect();
        let mut balancer = Self {
            config: Config { services: Vec::new(), ..config.clone() },
            config_file,
            engine,
            model: Model::default(),
            snapshot: Arc::default(),
            links,
            devices,
            neighbors: Neighbors::default(),
            notices,
            started: Instant::now(),
            checks: Checks::default(),
            exchange: Arc::default(),
            events: Arc::default(),
            hosts: Hosts::default(),
            history: History::default(),
            changed: false,
            committed: 0,
            balance_at: 0,
            ports: links_of,
            cables: Vec::new(),
            reviewed: 0,
            actions: Vec::new(),
            heard: Vec::new(),
            conflicts: Quiet::default(),
            moves: Quiet::default(),
        };
        balancer.apply(config)?;
        // Before the first there was none.
        balancer.history = History::default();
        Ok(balancer)
    }

    /// Milliseconds since the start.
    pub fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    pub fn generation(&self) -> u32 {
        self.snapshot.generation
    }

    /// Whether every worker uses `generation` or a later one.
    pub fn is_acknowledged(&self, generation: u32) -> bool {
        self.links.acknowledged() >= u64::from(generation)
    }

    /// Whether [`Balancer::apply`] would take `config`.
    pub fn check(&self, config: &Config) -> Result<(), Vec<ConfigError>> {
        let mut errors = build::refusals(config);
        errors.extend(build::needs_restart(&self.config, config));
        errors.extend(duty::prepare(config).err().into_iter().flatten());
        if errors.is_empty() { self.plan(config).map(drop) } else { Err(errors) }
    }

    fn plan(&self, config: &Config) -> Result<Model, Vec<ConfigError>> {
        let next = self.snapshot.generation + 1;
        self.model.with(&config.services, next).map_err(|most| {
            let problem = format!("there are more than {most} backends, with those whose connections go on");
            vec![ConfigError::at(&config.origin, "service", problem, "remove some, or apply it later again")]
        })
    }

    /// Puts `config` in force: everything is built first, so that an error changes nothing. Workers take it up soon
    /// after; see [`Balancer::is_acknowledged`].
    pub fn apply(&mut self, config: Config) -> Result<Applied, Vec<ConfigError>> {
        self.apply_prepared(config, Ahead::default())
    }

    /// As [`Balancer::apply`], with what was made ahead.
    pub(super) fn apply_prepared(
        &mut self,
        config: Config,
        ahead: Ahead,
    ) -> Result<Applied, Vec<ConfigError>> {
        let before = self.config.clone();
        let (applied, given_up) = self.replace(config, &[], ahead)?;
        self.history.push(Past { config: before, given_up });
        Ok(applied)
    }

    /// Puts the configuration in force that was so before, with what operators had changed then.
    pub(super) fn roll_back(&mut self, ahead: Ahead) -> Option<Result<Applied, Vec<ConfigError>>> {
        let Past { config, given_up } = self.history.last()?.clone();
        let rolled = self.replace(config, &given_up, ahead);
        if rolled.is_ok() {
            self.history.pop();
        }
        Some(rolled.map(|(applied, _)| applied))
    }

    /// What takes long to make for `config`, to be made by [`Ahead::make`] on another thread.
    pub(super) fn plan_ahead(
        &mut self,
        config: &Config,
    ) -> Result<(Model, MaglevParameters), Vec<ConfigError>> {
        self.reclaim();
        self.check(config)?;
        Ok((self.plan(config)?, build::maglev(&self.config)))
    }

    fn replace(
        &mut self,
        config: Config,
        restored: &[Override],
        ahead: Ahead,
    ) -> Result<(Applied, Vec<Override>), Vec<ConfigError>> {
        self.reclaim();
        self.check(&config)?;
        let mut model = self.plan(&config)?;
        for one in restored {
            one.restore(&mut model);
        }
        let prepared = duty::prepare(&config)?;
        let changes = super::changes::between(&self.config, &config);
        let given_up = overrides::given_up(&self.model, &model);
        let kept = overrides::words(&overrides::all(&model));
        let warnings = build::warnings(&config);
        let known = self.announced();
        self.config = config;
        self.checks.take_up(&mut model, &prepared, self.now());
        self.commit(model, ahead);
        self.announce(&known);
        let generation = self.generation();
        let words = overrides::words(&given_up);
        Ok((Applied { generation, changes, kept, given_up: words, warnings }, given_up))
    }

    /// Makes an operator's change to one backend and publishes what follows.
    pub fn change(
        &mut self,
        service: &str,
        address: BackendAddress,
        change: impl FnOnce(&mut Backend),
    ) -> Result<u32, Missing> {
        let mut model = self.model.clone();
        let name = service;
        let service = model.service_mut(service).ok_or(Missing::Service)?;
        let mut backends = service.backends.iter_mut();
        let backend = backends.find(|backend| backend.config.address == address).ok_or(Missing::Backend)?;
        let before = (backend.admin.state(), backend.weight);
        change(backend);
        let after = (backend.admin.state(), backend.weight);
        self.events.operator(name, address, before, after);
        // Whatever it is, what is still under way was meant for the drain before.
        let slot = backend.slot;
        if !matches!(backend.admin, Admin::Disabled) {
            model.slots.set_resetting(slot, false);
        }
        self.commit(model, Ahead::default());
        Ok(self.generation())
    }

    /// Builds and publishes the snapshot of `model`, which takes the place of the one before.
    fn commit(&mut self, mut model: Model, ahead: Ahead) {
        let generation = self.snapshot.generation + 1;
        model.ramp(Instant::now());
        ahead.lend(&mut model);
        let snapshot = build::snapshot(generation, &mut model, &self.config, &self.ports, &self.snapshot);
        self.events.panics(&model);
        self.model = model;
        self.snapshot = Arc::new(snapshot);
        // Before workers use a new scheduler it knows the loads.
        self.balance();
        self.links.publish(&self.snapshot);
        self.changed = false;
        self.committed = self.now();
        let hops = build::needed_hops(&self.snapshot, &self.config);
        let mut actions = std::mem::take(&mut self.actions);
        self.neighbors.pin(self.now(), hops, &mut actions);
        self.act(actions);
    }

    /// The addresses that the link is told about: those of the ports, and VIPs and local addresses on their subnets.
    fn announced(&self) -> HashSet<(PortId, IpAddr)> {
        let vips =
            self.snapshot.services().iter().filter(|service| service.vip.is_host()).filter_map(|service| {
                let address = service.vip.address();
                self.snapshot.on_link(address).map(|port| (port, address))
            });
        let locals = self.snapshot.local_address_lists().iter().flat_map(|list| list.iter().copied());
        let locals = locals.filter_map(|address| Some((self.snapshot.on_link(address)?, address)));
        let own = self.snapshot.ports().iter().enumerate();
        own.flat_map(|(id, port)| port.addresses.iter().map(move |own| (id as PortId, own.address())))
            .chain(vips)
            .chain(locals)
            .collect()
    }

    /// Tells the link about addresses that are new: it may know another station by them.
    fn announce(&mut self, known: &HashSet<(PortId, IpAddr)>) {
        for (id, address) in self.announced() {
            if known.contains(&(id, address)) {
                continue;
            }
            let frame = self
                .snapshot
                .ports()
                .get(usize::from(id))
                .and_then(|port| frames::announcement(port, address));
            if let Some(frame) = frame {
                self.links.transmit(id, frame);
            }
        }
    }

    /// Hears the workers, resolves neighbours, ends drains. Returns whether anything was going on.
    pub fn poll(&mut self) -> bool {
        let now = self.now();
        let mut heard = std::mem::take(&mut self.heard);
        let mut actions = std::mem::take(&mut self.actions);
        self.links.poll(now, &mut heard);
        for (cpu, stalled) in self.links.stalls() {
            let (kind, what) = if stalled {
                (EventKind::WorkerStalled, "has not come round for a second")
            } else {
                (EventKind::WorkerResumed, "goes on")
            };
            self.events.record(kind, About::worker(cpu), format!("the worker on CPU {cpu} {what}"));
        }
        let spoken = !heard.is_empty();
        for notice in heard.drain(..) {
            self.hear(now, notice, &mut actions);
        }
        self.heard = heard;
        self.neighbors.tick(now, &mut actions);
        let lively = spoken || !actions.is_empty();
        self.act(actions);
        if now >= self.balance_at {
            self.balance();
        }
        let checking = self.carry_probes();
        let Self { links, hosts, .. } = self;
        let punted = links.for_host(|port, frame| hosts.give(port, frame)) > 0;
        self.hear_clients();
        if now.saturating_sub(self.reviewed) >= REVIEW {
            self.reviewed = now;
            self.review_drains();
            self.look_at_cables();
            self.events.settle(Instant::now());
            self.reclaim();
            self.changed |= self.model.has_to_ramp(Instant::now());
        }
        // Many changes in a row are one snapshot.
        if self.changed && now.saturating_sub(self.committed) >= SETTLE {
            let model = std::mem::take(&mut self.model);
            self.commit(model, Ahead::default());
        }
        lively || checking || punted
    }

    fn hear(&mut self, now: Millis, notice: Notice, actions: &mut Vec<Action>) {
        match notice {
            Notice::Wanted(hop) => self.neighbors.wanted(now, hop, actions),
            Notice::Used(hop) => self.neighbors.used(now, hop, actions),
            Notice::Seen { hop, mac, solicited } => {
                // The configuration may have changed since the worker saw it.
                if self.snapshot.on_link(hop.address) == Some(hop.port) {
                    self.neighbors.seen(now, hop, mac, solicited, actions);
                }
            }
            Notice::Conflict { port, address, mac } => {
                if let Some(more) = self.conflicts.speak() {
                    let port = self.port_name(port);
                    let message = format!("{mac} on port {port} claims {address}, which is ours{more}");
                    self.events.record(EventKind::AddressConflict, About::neighbor(port, address), message);
                }
            }
        }
    }

    pub(super) fn act(&mut self, mut actions: Vec<Action>) {
        for action in actions.drain(..) {
            match action {
                Action::Ask { hop, to } => {
                    let port = self.snapshot.ports().get(usize::from(hop.port));
                    if let Some(frame) = port.and_then(|port| frames::solicitation(port, hop, to)) {
                        self.links.transmit(hop.port, frame);
                    }
                }
                Action::Tell { hop, mac } => self.links.neighbor(hop, mac),
                Action::Moved { hop, from, to } => {
                    if let Some(more) = self.moves.speak() {
                        let port = self.port_name(hop.port);
                        let message = format!(
                            "neighbour {} on port {port} moved from {from} to {to}{more}",
                            hop.address
                        );
                        self.events.record(
                            EventKind::NeighborMoved,
                            About::neighbor(port, hop.address),
                            message,
                        );
                    }
                }
                Action::Lost { hop } => {
                    let port = self.port_name(hop.port);
                    let message = format!("neighbour {} on port {port} does not answer", hop.address);
                    self.events.record(EventKind::NeighborLost, About::neighbor(port, hop.address), message);
                }
            }
        }
        self.actions = actions;
    }

    /// Says which links went down or came back.
    fn look_at_cables(&mut self) {
        let now: Vec<Link> = self.devices.iter().map(|device| device.link()).collect();
        for (port, (was, is)) in self.config.ports.iter().zip(self.cables.iter().zip(&now)) {
            let (kind, what) = match (was, is) {
                (_, Link::Down) if was != is => (EventKind::PortDown, "the link went down"),
                (Link::Down, _) if was != is => (EventKind::PortUp, "the link is up again"),
                _ => continue,
            };
            self.events.record(kind, About::port(&port.name), format!("port {}: {what}", port.name));
        }
        self.cables = now;
    }

    /// How long the workers need not be looked after if none of them says anything.
    pub fn leisure(&self) -> Duration {
        // The host's traffic comes without a warning.
        if !self.hosts.is_empty() {
            return super::LIVELY;
        }
        let follows_load = || self.snapshot.services().iter().any(|service| service.scheduler.follows_load());
        Duration::from_millis(if self.changed || follows_load() { BALANCE } else { REVIEW / 2 })
    }

    /// Tells schedulers that want to know the connections that all workers count, a share of the time only.
    fn balance(&mut self) {
        let begin = Instant::now();
        let workers = self.links.counters();
        let load = |slot: u32| Load {
            active: slots::active(&workers, slot),
            total: slots::sum(&workers, slot, |counters| &counters.connections_total),
        };
        for service in self.snapshot.services().iter().filter(|service| service.scheduler.follows_load()) {
            service.scheduler.observe(workers.len() as u8, &load);
        }
        self.balance_at = self.now() + BALANCE.max(begin.elapsed().as_millis() as Millis * BALANCE_SHARE);
    }

    /// Frees slots of removed backends without connections; what they counted stays with their services.
    fn reclaim(&mut self) {
        let counters = self.links.counters();
        for (name, totals) in self.model.slots.reclaim(&counters, self.links.acknowledged()) {
            if let Some(service) = self.model.service_mut(&name) {
                service.carried = service.carried.plus(totals);
            }
        }
    }

    /// A port by its name.
    pub(super) fn port_name(&self, id: PortId) -> &str {
        self.config.ports.get(usize::from(id)).map_or("?", |port| &port.name)
    }
}

/// Says the same kind of thing once in a while only.
#[derive(Debug, Default)]
struct Quiet {
    last: Option<Instant>,
    unsaid: u64,
}

impl Quiet {
    /// What to add if it may be said now.
    fn speak(&mut self) -> Option<String> {
        if self.last.is_some_and(|last| last.elapsed() < QUIET) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            unsaid => format!(" ({unsaid} more like it were not logged)"),
        })
    }
}
