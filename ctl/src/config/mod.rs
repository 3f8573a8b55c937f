//! The configuration file: TOML text in, a checked [`Config`] out, or every error at once.
//!
//! [`Config::parse`] goes through three steps, and the errors of all of them are reported together:
//!
//! 1. the text is parsed as TOML (several syntax errors are reported where the parser can recover);
//! 2. `decode` turns tables into the [model](Config), naming unknown keys and values it cannot read;
//! 3. `validate` checks what single values cannot show: overlaps, duplicates, families, reachability.
//!
//! Whatever is wrong becomes a [`ConfigError`] with file, line, key, reason and remedy. Nothing here
//! depends on the machine that reads the file, except the defaults of `workers` and `control_cpus`;
//! see [`Config::check_machine`] for what does.

mod decode;
mod error;
mod load;
mod machine;
mod model;
mod origin;
mod read;
mod suggest;
mod supported;
mod types;
mod validate;
mod value;

pub use error::{ConfigError, ConfigWarning};
pub use load::{MAX_FILE_BYTES, read_file};
pub use machine::Machine;
pub(crate) use machine::cpu_list;
pub use model::{Backend, Config, Health, Port, Route, Runtime, Service, Timeouts};
pub use origin::Origin;
pub use supported::{Supported, unsupported};
pub use types::{
    Affinity, BackendAddress, HashField, HealthType, InterfaceAddress, Mode, Mss, Payload, Poll, Ports,
    Prefix, Protocol, Scheduler, Size, StatusSet, Steering, TimeSpan, Tunnel, UnknownConnections, ValueError,
};
