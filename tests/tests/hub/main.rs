//! Downloads from a local server that behaves like the hub, or misbehaves.

mod files;
mod models;
