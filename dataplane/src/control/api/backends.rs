//! What operators change about a backend.

use super::answer::{Answer, bad_request, body, json, may_change, no_backend, no_service};
use super::{Peer, Refusal};
use crate::control::balancer::Missing;
use crate::control::drain::Deadline;
use crate::control::model::{Admin, Backend};
use crate::control::stats::Reader;
use crate::control::{Control, objects};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use ctl::api::{self, DrainEnd, DrainRequest, WeightRequest};
use ctl::config::{BackendAddress, TimeSpan};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Place = Result<Path<(String, String)>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;
type Shared = State<Arc<Control>>;

pub(super) async fn enable(
    State(control): Shared,
    Extension(peer): Extension<Peer>,
    place: Place,
) -> Answer<api::Backend> {
    change(&control, peer, place, |backend| backend.admin = Admin::Enabled).await
}

pub(super) async fn disable(
    State(control): Shared,
    Extension(peer): Extension<Peer>,
    place: Place,
) -> Answer<api::Backend> {
    change(&control, peer, place, |backend| backend.admin = Admin::Disabled).await
}

pub(super) async fn drain(
    State(control): Shared,
    Extension(peer): Extension<Peer>,
    place: Place,
    bytes: Body,
) -> Answer<api::Backend> {
    let request: DrainRequest = json(&body(bytes)?, Some(DrainRequest::default()))?;
    let deadline = match request.deadline_seconds {
        None => None,
        Some(seconds) => {
            let most = TimeSpan::MAX.as_secs_f64();
            if !(0.0..=most).contains(&seconds) {
                return Err(bad_request(&format!("deadline_seconds is {seconds}, not 0 to {most}")));
            }
            Some(Deadline::new(Instant::now() + Duration::from_secs_f64(seconds), request.then))
        }
    };
    if deadline.is_none() && request.then == DrainEnd::Reset {
        return Err(bad_request("then is \"reset\", but there is no deadline_seconds"));
    }
    let admin = Admin::Draining { deadline };
    change(&control, peer, place, |backend| backend.admin = admin).await
}

pub(super) async fn weight(
    State(control): Shared,
    Extension(peer): Extension<Peer>,
    place: Place,
    bytes: Body,
) -> Answer<api::Backend> {
    let WeightRequest { weight } = json(&body(bytes)?, None)?;
    change(&control, peer, place, |backend| backend.weight = weight).await
}

/// Makes a change and waits until every worker goes by it.
async fn change(
    control: &Control,
    peer: Peer,
    place: Place,
    change: impl FnOnce(&mut Backend),
) -> Answer<api::Backend> {
    may_change(peer)?;
    let Path((name, text)) = place?;
    let address: BackendAddress = match text.parse() {
        Ok(address) => address,
        // Whatever it is, no backend is called that.
        Err(_) if control.balancer().model.service(&name).is_none() => return Err(no_service(&name)),
        Err(_) => return Err(no_backend(&name, &text)),
    };
    let _turn = control.turn().await;
    let changed = control.balancer().change(&name, address, change);
    let generation = changed.map_err(|missing| match missing {
        Missing::Service => no_service(&name),
        Missing::Backend => no_backend(&name, &text),
    })?;
    control.acknowledged(generation).await?;
    shown(control, &name, address).map(Json)
}

fn shown(control: &Control, name: &str, address: BackendAddress) -> Result<api::Backend, Refusal> {
    let balancer = control.balancer();
    let service = balancer.model.service(name).ok_or_else(|| no_service(name))?;
    let backend = service.backend(address).ok_or_else(|| no_backend(name, &address.to_string()))?;
    Ok(objects::backend(&balancer, &Reader::new(&balancer), service, backend))
}
