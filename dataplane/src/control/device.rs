//! What the control thread knows of the ports' devices.

use ctl::api::{Link, Offload, PortQueues, PortStats, PortSteering, Rss};
use std::fmt::Debug;
use std::sync::Arc;

/// A port's device as the control thread sees it. Packets are the workers' business.
pub trait Device: Send + Debug {
    /// What it is and what it can do, right now.
    fn facts(&self) -> Facts;

    /// Whether its cable is in, right now.
    fn link(&self) -> Link {
        self.facts().link
    }

    /// Its own counters; the name is left empty.
    fn counters(&self) -> PortStats;
}

/// Ports that share a device.
impl<D: Device + Sync> Device for Arc<D> {
    fn facts(&self) -> Facts {
        (**self).facts()
    }

    fn link(&self) -> Link {
        (**self).link()
    }

    fn counters(&self) -> PortStats {
        (**self).counters()
    }
}

/// What a device is and what it can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub driver: String,
    pub link: Link,
    pub link_mbps: Option<u32>,
    pub numa_node: Option<u16>,
    pub queues: PortQueues,
    pub rss: Rss,
    /// How its packets are steered; the counts are left at 0.
    pub steering: PortSteering,
    pub offloads: Vec<Offload>,
    /// What it lacks and what is done instead.
    pub notices: Vec<String>,
}

/// A device of which nothing is known: in-memory ports.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unknown;

impl Device for Unknown {
    fn facts(&self) -> Facts {
        Facts {
            driver: "memory".into(),
            link: Link::Unknown,
            link_mbps: None,
            numa_node: None,
            queues: PortQueues::default(),
            rss: Rss::default(),
            steering: PortSteering::default(),
            offloads: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn counters(&self) -> PortStats {
        PortStats::default()
    }
}
