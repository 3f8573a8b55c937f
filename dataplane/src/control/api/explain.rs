//! What becomes of a packet.

use super::answer::{Answer, bad_request, not_found};
use super::flows;
use crate::control::{Control, explain};
use crate::worker::Listing;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use ctl::api::{ExplainQuery, Explanation};
use std::sync::Arc;

pub(super) async fn explain(
    State(control): State<Arc<Control>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Answer<Explanation> {
    let Query(query) = query?;
    if query.source.is_ipv4() != query.destination.is_ipv4() {
        return Err(bad_request("source and destination are of different families"));
    }
    let question = explain::question(&query);
    let _turn = control.listing_turn().await;
    control.balancer().links.ask_listing(|| Listing::explain(question));
    let answers = flows::answers(&control).await?;
    let said: Vec<_> = answers.iter().filter_map(|listing| listing.explanation).collect();
    let balancer = control.balancer();
    explain::decisive(&said)
        .and_then(|said| explain::explanation(&balancer, &query, said))
        .map(Json)
        .ok_or_else(|| {
            let (why, remedy) = explain::nearest_miss(&balancer, &query);
            not_found("the packet is dropped (no_service)", why, remedy)
        })
}
