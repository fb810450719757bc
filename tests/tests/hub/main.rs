//! Downloads, from a server on this machine that behaves like the hub, or misbehaves.

mod files;
mod models;
