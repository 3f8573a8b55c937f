//! What the daemon and its tools agree on.
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | the configuration file: model, parser, checks |
//! | [`api`] | the HTTP/JSON types of the control socket, the only definition of them |
//! | `client` | a blocking client of that API (feature `client`) |
//! | [`doctor`] | whether a machine is prepared |
//! | `sluiced` | the command line of the daemon (feature `arguments`) |
//! | `cli` | the command tree of `sluicectl` (feature `cli`) |
//!
//! Without features the crate pulls in neither an HTTP stack nor a command line parser.

#![forbid(unsafe_code)]

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
pub mod doctor;
#[cfg(feature = "arguments")]
pub mod sluiced;
