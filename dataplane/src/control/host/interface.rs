//! An interface of the kernel's: a TAP device, and what it is told by netlink.

use crate::snapshot::Port;
use crate::wire::ethernet::Mac;
use ctl::config::InterfaceAddress;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use rtnetlink::{AddressAddRequest, Handle, LinkUnspec};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_tun::Tun;

/// An address, and the length of its subnet's prefix.
type Own = (IpAddr, u8);

/// What an interface should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    mac: Mac,
    mtu: u16,
    addresses: BTreeSet<Own>,
    carrier: bool,
}

impl Wanted {
    /// `carrier`: the port's cable is in.
    pub(super) fn new(name: String, port: &Port, carrier: bool) -> Self {
        let own = |own: &InterfaceAddress| (own.address(), own.length());
        let link_local = (port.link_local().into(), 64);
        let addresses = port.addresses.iter().map(own).chain([link_local]).collect();
        Self { name, mac: port.mac, mtu: port.mtu, addresses, carrier }
    }

    /// Addresses to be taken away, and to be added, where there were those of `before`.
    fn differences<'a>(&'a self, before: &'a Self) -> (Vec<&'a Own>, Vec<&'a Own>) {
        let gone = before.addresses.difference(&self.addresses).collect();
        (gone, self.addresses.difference(&before.addresses).collect())
    }
}

/// Why an interface cannot be had, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub(super) struct Trouble {
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// An interface that was made here. It goes when this is dropped.
pub(super) struct Interface {
    tun: Arc<Tun>,
    index: u32,
    netlink: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Interface {
    /// Makes the interface and brings it up.
    pub(super) async fn make(wanted: &Wanted) -> Result<Self, Trouble> {
        let name = &wanted.name;
        if exists(name) {
            return Err(Trouble {
                problem: format!("the interface {name} is there already"),
                remedy: "use another name, or remove it: sluiced makes it itself".into(),
            });
        }
        let made = Tun::builder().name(name).tap().close_on_exec().build();
        let mut queues = made.map_err(|error| cannot_make(name, &error))?;
        let tun = Arc::new(queues.swap_remove(0));
        let index = tun.index().map_err(|error| cannot_make(name, &error))?;
        let (connection, netlink, _) =
            rtnetlink::new_connection().map_err(|error| cannot_tell(name, "anything", &error))?;
        let this = Self { tun, index, netlink, connection: tokio::spawn(connection) };
        this.bring_up(wanted).await?;
        Ok(this)
    }

    pub(super) fn tun(&self) -> Arc<Tun> {
        Arc::clone(&self.tun)
    }

    async fn bring_up(&self, wanted: &Wanted) -> Result<(), Trouble> {
        let link = || LinkUnspec::new_with_index(self.index);
        let basics = link().address(wanted.mac.0.to_vec()).mtu(wanted.mtu.into()).build();
        self.set(&wanted.name, "its hardware address and MTU", basics).await?;
        // It has the port's link-local address, and no other: the balancer answers for that one alone. A kernel without
        // IPv6 does not know what this is about.
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let own_addresses = link().append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none])).build();
        let _ = self.netlink.link().set(own_addresses).execute().await;
        self.set(&wanted.name, "to be up", link().up().build()).await?;
        self.set_carrier(wanted).await;
        for address in &wanted.addresses {
            self.add(&wanted.name, address).await?;
        }
        Ok(())
    }

    /// Makes it what is wanted now, where it was what was wanted `before`.
    pub(super) async fn change(&self, before: &Wanted, wanted: &Wanted) -> Result<(), Trouble> {
        if before.carrier != wanted.carrier {
            self.set_carrier(wanted).await;
        }
        let (gone, new) = wanted.differences(before);
        let mut problems = Vec::new();
        for address in gone {
            let message = self.request(address).message_mut().clone();
            // Somebody may have taken it away.
            let _ = self.netlink.address().del(message).execute().await;
        }
        for address in new {
            problems.extend(self.add(&wanted.name, address).await.err());
        }
        problems.into_iter().next().map_or(Ok(()), Err)
    }

    async fn set(&self, name: &str, what: &str, message: LinkMessage) -> Result<(), Trouble> {
        let done = self.netlink.link().set(message).execute().await;
        done.map_err(|error| cannot_tell(name, what, &error))
    }

    /// Kernels before 5.0 do not take it: then the link is up always.
    async fn set_carrier(&self, wanted: &Wanted) {
        let message = LinkUnspec::new_with_index(self.index).carrier(wanted.carrier).build();
        if let Err(error) = self.netlink.link().set(message).execute().await {
            tracing::debug!("{}: the carrier cannot be set: {error}", wanted.name);
        }
    }

    fn request(&self, &(address, length): &Own) -> AddressAddRequest {
        self.netlink.address().add(self.index, address, length)
    }

    async fn add(&self, name: &str, address: &Own) -> Result<(), Trouble> {
        let mut request = self.request(address).replace();
        if address.0.is_ipv6() {
            // Whoever has it is told so by the balancer, which defends it: to the kernel it would look as if it were taken
            // (RFC 4862 section 5.4).
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await {
            Err(error) if is_link_local(address.0) => {
                tracing::warn!("{name} has no link-local address, for the host has no IPv6: {error}");
                Ok(())
            }
            done => done.map_err(|error| {
                cannot_tell(name, &format!("its address {}/{}", address.0, address.1), &error)
            }),
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn exists(name: &str) -> bool {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    socket.is_ok_and(|socket| rustix::net::netdevice::name_to_index(socket, name).is_ok())
}

fn cannot_make(name: &str, error: &tokio_tun::Error) -> Trouble {
    Trouble {
        problem: format!("the interface {name} cannot be made: {error}"),
        remedy: "it needs the device /dev/net/tun (\"modprobe tun\") and the capability CAP_NET_ADMIN: run sluiced as root, \
                 or remove host_interface"
            .into(),
    }
}

fn cannot_tell(name: &str, what: &str, error: &dyn std::error::Error) -> Trouble {
    Trouble {
        problem: format!("the interface {name} does not get {what}: {error}"),
        remedy: "run sluiced with CAP_NET_ADMIN, and IPv6 on if the port has such addresses, or remove host_interface".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(addresses: &[&str], carrier: bool) -> Wanted {
        let addresses = addresses.iter().map(|own| own.parse().unwrap()).collect();
        let port = Port { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1400, addresses, host: Some(100) };
        Wanted::new("wan0".into(), &port, carrier)
    }

    #[test]
    fn an_interface_is_what_the_port_is() {
        let one = wanted(&["10.0.0.2/24", "2001:db8::2/64"], true);
        let all: Vec<String> = one.addresses.iter().map(|(ip, length)| format!("{ip}/{length}")).collect();
        assert_eq!(all, ["10.0.0.2/24", "2001:db8::2/64", "fe80::ff:fe00:1/64"]);
        assert_eq!((one.mtu, one.mac), (1400, Mac([2, 0, 0, 0, 0, 1])));
    }

    #[test]
    fn only_what_differs_is_changed() {
        let (one, two) =
            (wanted(&["10.0.0.2/24", "10.0.0.3/24"], true), wanted(&["10.0.0.3/24", "10.0.0.2/25"], true));
        let text = |list: Vec<&Own>| -> Vec<String> {
            list.iter().map(|(ip, length)| format!("{ip}/{length}")).collect()
        };
        let (gone, new) = two.differences(&one);
        assert_eq!((text(gone), text(new)), (vec!["10.0.0.2/24".into()], vec!["10.0.0.2/25".into()]));
        let (gone, new) = one.differences(&one);
        assert!(gone.is_empty() && new.is_empty());
        assert_ne!(one, wanted(&["10.0.0.2/24", "10.0.0.3/24"], false));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let denied = std::io::Error::from_raw_os_error(1).into();
        let text = cannot_make("wan0", &denied).to_string();
        assert!(
            text.contains("wan0") && text.contains("not permitted") && text.contains("CAP_NET_ADMIN"),
            "{text}"
        );
        assert!(exists("lo") && !exists("no-such-thing"));
    }
}
