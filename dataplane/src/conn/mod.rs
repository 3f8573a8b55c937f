//! Connections: one table per worker and address family, owned by that worker alone.
//!
//! The rest of the crate sees [`Table`] and [`Entry`]; how keys are found ([`index`]) and where memory comes from
//! ([`region`]) can change behind them.

mod index;
mod region;
mod sequence;
mod state;
mod table;

pub use index::{Handle, IndexStats};
pub use sequence::{SETTLED, SETTLED_WINDOW, WINDOW, fits};
pub use state::{Class, Direction, LATE, Seen, State, States, Timeouts};
pub use table::{Entry, Full, Table};

/// Milliseconds since the daemon started, modulo 2^32 (49 days). Differences are taken modulo 2^32, so they hold for
/// up to 24 days; no timeout is longer than [`Timeouts::MAX`].
pub type Tick = u32;
