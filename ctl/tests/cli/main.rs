//! `sluicectl` as its users run it, against a daemon that answers what the test tells it to.

mod doctor;
mod drain;
mod events;
mod explain;
mod fake;
mod problems;
mod samples;
mod top;
mod verbs;
mod without_daemon;
