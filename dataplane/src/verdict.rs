//! What the pipeline decides for a packet.

use crate::neighbor::Slot;
use crate::route::PortId;
use crate::wire::Malformed;

/// Where a packet goes next. Whoever gets a verdict owns the packet and does exactly that with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it out of the port; it is rewritten and addressed.
    Forward(PortId),
    /// It was meant for the balancer and has been turned into the answer: send it where it came from.
    Answer,
    /// It was meant for the balancer and is done with.
    Consume,
    /// It answers a health check: give the control thread a copy and be done with it.
    Deliver,
    /// It is for the host: give its kernel a copy and be done with it.
    Punt,
    /// It was meant for the balancer, which has heard it, and for the host's kernel too.
    Share,
    /// Keep it until the neighbour's hardware address is known; all else is rewritten.
    Hold(Slot),
    /// Keep it, untouched, until the first fragment of its datagram has come; the number is the datagram's.
    Await(u16),
    /// It is tagged with a priority alone: take the tag off, and decide again.
    Untag,
    /// Give it, untouched, to the worker that owns its connection.
    HandOff(u8),
    Drop(DropReason),
    /// It is dropped for this reason, and has been turned into the answer that says so: send it where it came from.
    Refuse(DropReason),
}

/// Declares [`DropReason`] with its names.
macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was dropped. Each has a counter of that name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All of them, in the order of their counters.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Name of the counter.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line for a person.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The frame ends before its headers do.
    Truncated = "truncated",
    /// The frame is addressed to another station.
    NotOurMac = "not_our_mac",
    /// The EtherType is none that the balancer speaks.
    UnknownEthertype = "unknown_ethertype",
    /// Of a VLAN that is not configured on the port; untagged, where the port has only tagged traffic.
    VlanUnknown = "vlan_unknown",
    /// Tagged twice, or with the tag of a provider's bridge.
    VlanNested = "vlan_nested",
    /// The IP version contradicts the EtherType.
    IpVersion = "ip_version",
    /// The IP header length is impossible.
    IpHeaderLength = "ip_header_length",
    /// The IP length field contradicts the frame.
    IpTotalLength = "ip_total_length",
    /// The IPv4 header checksum is wrong.
    IpChecksum = "ip_checksum",
    /// The source address cannot be anybody's (multicast, loopback, unspecified).
    IpSource = "ip_source",
    /// A fragment of neither TCP nor UDP, or for the balancer itself.
    Fragment = "fragment",
    /// A fragment that no datagram can have: empty, of odd length, or beyond the longest datagram.
    FragmentMalformed = "fragment_malformed",
    /// A first fragment without the whole TCP or UDP header, or another one that begins within it.
    FragmentTiny = "fragment_tiny",
    /// A fragment that overlaps with another, or belongs to a datagram of which some did.
    FragmentOverlap = "fragment_overlap",
    /// Too many fragments wait for the first one of their datagram.
    FragmentQueueFull = "fragment_queue_full",
    /// A fragment whose first one did not come in time, or came too long ago.
    FragmentTimeout = "fragment_timeout",
    /// The hop limit ran out.
    HopLimit = "hop_limit",
    /// Neither TCP, UDP nor ICMP.
    UnknownProtocol = "unknown_protocol",
    /// The TCP header is impossible.
    TcpHeader = "tcp_header",
    /// The UDP length contradicts the packet.
    UdpLength = "udp_length",
    /// An ARP message that is malformed.
    ArpMalformed = "arp_malformed",
    /// An ARP or neighbour discovery message about somebody else.
    NotForUs = "not_for_us",
    /// A neighbour discovery message that RFC 4861 says to discard.
    NdpMalformed = "ndp_malformed",
    /// An ICMP message that is malformed.
    IcmpMalformed = "icmp_malformed",
    /// An ICMP message that concerns no connection.
    IcmpUnrelated = "icmp_unrelated",
    /// An ICMP error that quotes too little to say which connection it is about.
    IcmpErrorTruncated = "icmp_error_truncated",
    /// An ICMP error whose checksum is wrong.
    IcmpErrorChecksum = "icmp_error_checksum",
    /// An ICMP error about another ICMP message.
    IcmpErrorAboutIcmp = "icmp_error_about_icmp",
    /// An ICMP message in fragments, or an ICMP error about a fragment without ports.
    IcmpFragment = "icmp_fragment",
    /// An ICMP error about a connection between address families for which the other one has no words (RFC 7915).
    IcmpUntranslatable = "icmp_untranslatable",
    /// An IPv4 datagram in fragments and without a UDP checksum, which IPv6 asks for (RFC 7915 section 4.5).
    UdpChecksumMissing = "udp_checksum_missing",
    /// A packet with a source route that is not over, for a backend of the other address family (RFC 7915).
    SourceRoute = "source_route",
    /// An ICMP error about a tunnel to a backend that says nothing to a client.
    TunnelError = "tunnel_error",
    /// A multicast or broadcast packet.
    Multicast = "multicast",
    /// For an address or port of no service.
    NoService = "no_service",
    /// The service has no backend that takes connections.
    NoBackend = "no_backend",
    /// A TCP segment that cannot begin a connection and belongs to none.
    NoConnection = "no_connection",
    /// A TCP segment of a connection that is not known, to a service that has such reset.
    UnknownConnection = "unknown_connection",
    /// No route to the backend or the client.
    NoRoute = "no_route",
    /// The connection table is full of established connections.
    TableFull = "table_full",
    /// Every backend tried already has a connection from that client's address and port.
    ReplyConflict = "reply_conflict",
    /// Every local port tried towards the backend is in use, or was a moment ago.
    LocalPortsExhausted = "local_ports_exhausted",
    /// The neighbour table is full.
    NeighborTableFull = "neighbor_table_full",
    /// The next hop did not answer in time.
    NeighborUnresolved = "neighbor_unresolved",
    /// Too many packets wait for next hops.
    NeighborQueueFull = "neighbor_queue_full",
    /// Larger than the MTU of the port that it would leave by.
    MtuExceeded = "mtu_exceeded",
    /// No room in the packet's buffer for longer headers, as of a tunnel.
    NoHeadroom = "no_headroom",
    /// The port's transmit ring was full.
    TxFull = "tx_full",
    /// The ring to the worker that owns the connection, or that has a queue to send it, was full.
    HandoffFull = "handoff_full",
    /// Of a connection that is being reset at the end of a drain.
    Drained = "drained",
    /// An answer to a health check, too large or one too many for the control thread.
    ProbeQueueFull = "probe_queue_full",
    /// For the host's kernel: over the port's host_rate, or more than the control thread has taken so far.
    PuntLimit = "punt_limit",
}

impl DropReason {
    /// The reason for an IP header that is malformed.
    pub fn of_ip(error: Malformed) -> Self {
        match error {
            Malformed::Truncated => Self::Truncated,
            Malformed::Version => Self::IpVersion,
            Malformed::HeaderLength | Malformed::Field => Self::IpHeaderLength,
            Malformed::TotalLength => Self::IpTotalLength,
            Malformed::Checksum => Self::IpChecksum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_snake_case() {
        let mut names: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert!(reason.help().ends_with('.'));
        }
    }
}
