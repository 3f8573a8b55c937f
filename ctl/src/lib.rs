//! Configuration model, API types and client.
