//! Listing connections.

use super::answer::{Answer, bad_request, no_backend, no_backend_anywhere, no_service, refuse};
use crate::conn::State as ConnState;
use crate::control::Control;
use crate::control::balancer::Balancer;
use crate::wire::protocol;
use crate::worker::{Filter, FlowRow, Listing};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use ctl::api::{Flow, FlowQuery, FlowState, Flows};
use ctl::config::{BackendAddress, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long workers may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn flows(
    State(control): State<Arc<Control>>,
    query: Result<Query<FlowQuery>, QueryRejection>,
) -> Answer<Flows> {
    let Query(query) = query?;
    let limit = query.effective_limit() as usize;
    let _turn = control.listing_turn().await;
    {
        let mut balancer = control.balancer();
        let filter = Filter { backends: slots(&balancer, &query)?, client: query.client };
        let share = limit.div_ceil(balancer.links.len().max(1));
        balancer.links.ask_listing(|| Listing::new(filter.clone(), share));
    }
    let listings = answers(&control).await?;
    let balancer = control.balancer();
    let mut flows = Flows::default();
    for (link, listing) in balancer.links.iter().zip(listings) {
        flows.truncated |= listing.truncated;
        flows.flows.extend(listing.rows.iter().map(|row| flow(&balancer, link.cpu, row)));
    }
    flows.truncated |= flows.flows.len() > limit;
    flows.flows.truncate(limit);
    Ok(Json(flows))
}

/// What the workers say to the question that they were asked.
pub(super) async fn answers(control: &Control) -> Result<Vec<Box<Listing>>, super::Refusal> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut balancer = control.balancer();
        balancer.poll();
        if let Some(listings) = balancer.links.listed() {
            return Ok(listings);
        }
        if Instant::now() >= deadline {
            return Err(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "there is no answer",
                "a worker did not say anything within two seconds",
                "look at \"sluicectl worker\", and try again",
            ));
        }
    }
}

/// The slots of the backends asked for, sorted; `None`: of all.
fn slots(balancer: &Balancer, query: &FlowQuery) -> Result<Option<Box<[u32]>>, super::Refusal> {
    if query.service.is_none() && query.backend.is_none() {
        return Ok(None);
    }
    let address = match &query.backend {
        None => None,
        Some(text) => Some(text.parse::<BackendAddress>().map_err(|error| bad_request(&error.to_string()))?),
    };
    let wanted = |name: &str, of: BackendAddress| {
        query.service.as_ref().is_none_or(|service| service == name)
            && address.is_none_or(|address| address == of)
    };
    let model = &balancer.model;
    let listed = model.services.iter().flat_map(|service| {
        let name = service.config.name.as_str();
        service.backends.iter().map(move |backend| (name, backend.config.address, backend.slot))
    });
    let going = model.slots.retired().map(|(slot, owner)| (&*owner.service, owner.address, slot));
    let mut slots: Vec<u32> =
        listed.chain(going).filter(|&(name, of, _)| wanted(name, of)).map(|(_, _, slot)| slot).collect();
    slots.sort_unstable();
    if let Some(name) = query.service.as_deref().filter(|name| model.service(name).is_none()) {
        return Err(no_service(name));
    }
    if let (true, Some(text)) = (slots.is_empty(), &query.backend) {
        return Err(match &query.service {
            Some(service) => no_backend(service, text),
            None => no_backend_anywhere(text),
        });
    }
    Ok(Some(slots.into()))
}

fn flow(balancer: &Balancer, worker: u16, row: &FlowRow) -> Flow {
    let service = balancer.model.slots.owner(row.backend_slot);
    let idle_seconds = f64::from(row.idle) / 1000.0;
    Flow {
        protocol: if row.protocol == protocol::UDP { Protocol::Udp } else { Protocol::Tcp },
        service: service.map(|owner| owner.service.to_string()).unwrap_or_default(),
        client: endpoint(row.client),
        vip: endpoint(row.vip),
        backend: endpoint(row.backend),
        local: row.local.map(endpoint),
        state: state(row.state),
        worker,
        // Tables do not keep when a connection began; it is at least as old as its last packet.
        age_seconds: idle_seconds,
        idle_seconds,
        timeout_seconds: f64::from(row.timeout) / 1000.0,
        packets: None,
        bytes: None,
    }
}

fn endpoint((address, port): (IpAddr, u16)) -> String {
    SocketAddr::new(address, port).to_string()
}

/// Where a connection is in its life.
pub(in crate::control) fn state(state: ConnState) -> FlowState {
    match state {
        ConnState::SynSent | ConnState::SynReceived | ConnState::Acknowledged | ConnState::Adopted => {
            FlowState::Syn
        }
        ConnState::Established => FlowState::Established,
        ConnState::FinEarly | ConnState::FinClient | ConnState::FinBackend => FlowState::Fin,
        ConnState::Free | ConnState::TimeWait | ConnState::Reset => FlowState::Closed,
        ConnState::UdpNew | ConnState::UdpReplied | ConnState::UdpEstablished => FlowState::Udp,
    }
}
