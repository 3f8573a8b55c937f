//! `sluicectl neighbor`

use super::Context;
use super::failure::Failure;
use super::output::{Output, Tone, seconds, text, toned};
use crate::api::{Neighbor, NeighborState, paths};

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    context.output.show(context.client.get(paths::NEIGHBORS)?, None, render)
}

fn render(output: &Output, neighbors: &Vec<Neighbor>) -> String {
    let mut rows = output.table(&["PORT", "ADDRESS", "MAC", "STATE", ">AGE [s]"]);
    for neighbor in neighbors {
        let tone = match neighbor.state {
            NeighborState::Reachable => Tone::Good,
            NeighborState::Incomplete | NeighborState::Stale => Tone::Care,
            NeighborState::Failed => Tone::Bad,
        };
        rows.push([
            text(&neighbor.port),
            text(neighbor.address),
            text(neighbor.mac.as_deref().unwrap_or("-")),
            toned(neighbor.state.as_str(), tone),
            seconds(neighbor.age_seconds),
        ]);
    }
    rows.render()
}
