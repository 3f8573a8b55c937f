//! The exception path: what is for the host itself, between the workers and the kernel.
//!
//! Each port with a `host_interface` has a TAP device of that name, with the port's hardware address, MTU and addresses.
//! [`Balancer::poll`](super::balancer::Balancer::poll) writes what workers punted into it; a task reads what the kernel sends
//! and gives it to the first worker, as long as that has room: what does not fit waits in the kernel's own queue. The task
//! also brings the interface up to date, and makes it anew if somebody took it away. The device goes with the descriptor,
//! whatever ends the process.

mod interface;

use super::Control;
use super::balancer::Balancer;
use super::events::About;
use crate::route::PortId;
use crate::wire::ethernet;
use crate::worker::LONGEST_FRAME;
use ctl::api::{EventKind, Link};
use ctl::config::ConfigError;
use interface::{Interface, Trouble, Wanted};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_tun::Tun;

/// Between two looks at whether the interface is as it should be.
const REVIEW: Duration = Duration::from_millis(100);
/// How long the task waits when the worker has no room for what the kernel sends.
const FULL: Duration = Duration::from_millis(1);
/// Between two attempts to make an interface anew.
const RETRY: Duration = Duration::from_secs(1);
/// Frames of the kernel's that are read in one go.
const AT_ONCE: usize = 64;

/// The kernel's interfaces, by port.
#[derive(Default)]
pub(super) struct Hosts(Vec<Host>);

/// The interface for one port.
#[derive(Default)]
struct Host {
    /// `None`: there is none, or it is gone.
    tun: Option<Arc<Tun>>,
    /// Frames that the kernel did not take: the interface is down, or gone.
    refused: u64,
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|host| host.tun.as_ref().map(|tun| tun.name()))).finish()
    }
}

impl Hosts {
    /// Whether there is any interface.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the kernel a frame that came by `port`.
    pub(super) fn give(&mut self, port: PortId, frame: &[u8]) {
        let Some(host) = self.0.get_mut(usize::from(port)) else { return };
        let taken = host.tun.as_ref().is_some_and(|tun| tun.try_send(frame).is_ok());
        host.refused += u64::from(!taken);
    }

    /// Whether the interface of `port` is there, and how many frames the kernel refused.
    pub(super) fn state(&self, port: usize) -> (bool, u64) {
        self.0.get(port).map_or((false, 0), |host| (host.tun.is_some(), host.refused))
    }

    fn set(&mut self, port: PortId, tun: Option<Arc<Tun>>) {
        let at = usize::from(port);
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Host::default);
        }
        self.0[at].tun = tun;
    }
}

/// What the interface of `port` should be; `None`: there is to be none.
fn wanted(balancer: &Balancer, id: PortId) -> Option<Wanted> {
    let name = balancer.config.ports.get(usize::from(id))?.host_interface.clone()?;
    let port = balancer.snapshot.ports().get(usize::from(id))?;
    let carrier = balancer.cables.get(usize::from(id)) != Some(&Link::Down);
    Some(Wanted::new(name, port, carrier))
}

/// Makes the interfaces that the configuration asks for, and begins to serve them.
///
/// # Errors
/// Why one cannot be made, in words, with what to do.
pub(super) async fn start(
    control: &Arc<Control>,
    tasks: &mut tokio::task::JoinSet<()>,
) -> Result<(), String> {
    let count = control.balancer().config.ports.len();
    for (id, index) in (0..PortId::MAX).zip(0..count) {
        let Some(wanted) = wanted(&control.balancer(), id) else { continue };
        let interface = Interface::make(&wanted).await.map_err(|Trouble { problem, remedy }| {
            let path = format!("port[{index}].host_interface");
            ConfigError::at(&control.balancer().config.origin, &path, problem, remedy).to_string()
        })?;
        announce(control, id, &wanted, &interface);
        tasks.spawn(keep(Arc::clone(control), id, wanted, interface));
    }
    Ok(())
}

/// From now on the kernel gets what is for it.
fn announce(control: &Control, id: PortId, wanted: &Wanted, interface: &Interface) {
    let mut balancer = control.balancer();
    balancer.hosts.set(id, Some(interface.tun()));
    let port = balancer.port_name(id);
    let message = format!("the host's interface {} stands for port {port}", wanted.name);
    balancer.events.record(EventKind::HostInterfaceUp, About::port(port), message);
}

/// Serves an interface for ever, and makes it anew when it is gone.
async fn keep(control: Arc<Control>, id: PortId, mut now: Wanted, mut interface: Interface) {
    loop {
        let error = serve(&control, id, &mut now, &interface).await;
        lost(&control, id, &format!("the interface {} is gone ({error}); it is made anew", now.name));
        control.balancer().hosts.set(id, None);
        drop(interface);
        let mut said = None;
        interface = loop {
            tokio::time::sleep(RETRY).await;
            if let Some(wanted) = wanted(&control.balancer(), id) {
                now = wanted;
            }
            match Interface::make(&now).await {
                Ok(interface) => break interface,
                Err(trouble) if said.as_ref() == Some(&trouble) => {}
                Err(trouble) => {
                    lost(&control, id, &trouble.to_string());
                    said = Some(trouble);
                }
            }
        };
        announce(&control, id, &now, &interface);
    }
}

fn lost(control: &Control, id: PortId, problem: &str) {
    let balancer = control.balancer();
    let port = balancer.port_name(id);
    let message = format!("port {port}: {problem}");
    balancer.events.record(EventKind::HostInterfaceLost, About::port(port), message);
}

/// Reads what the kernel sends and follows what the configuration says, until the interface is gone.
async fn serve(control: &Control, id: PortId, now: &mut Wanted, interface: &Interface) -> io::Error {
    let tun = interface.tun();
    let mut frame = vec![0; LONGEST_FRAME];
    let mut review = tokio::time::interval(REVIEW);
    review.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            read = tun.recv(&mut frame) => match read {
                Ok(len) => pass(control, id, &tun, &mut frame, len).await,
                Err(error) => return error,
            },
            _ = review.tick() => {
                // One that was taken away wakes nobody.
                match tun.try_recv(&mut frame) {
                    Ok(len) => pass(control, id, &tun, &mut frame, len).await,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return error,
                }
                let Some(wanted) = wanted(&control.balancer(), id) else { continue };
                if wanted == *now {
                    continue;
                }
                if let Err(trouble) = interface.change(now, &wanted).await {
                    lost(control, id, &trouble.to_string());
                }
                *now = wanted;
            }
        }
    }
}

/// Gives the first worker a frame of `len` bytes, and those behind it.
async fn pass(control: &Control, id: PortId, tun: &Tun, frame: &mut [u8], mut len: usize) {
    loop {
        for _ in 0..AT_ONCE {
            let mut balancer = control.balancer();
            if !balancer.links.has_room_from_host(len) {
                break;
            }
            if len >= ethernet::LEN {
                balancer.links.send_from_host(id, &frame[..len]);
            }
            match tun.try_recv(frame) {
                Ok(next) => len = next,
                // Nothing more; what is really wrong, the next one to wait hears.
                Err(_) => return,
            }
        }
        tokio::time::sleep(FULL).await;
    }
}
