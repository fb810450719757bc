//! Loading plugins: good, broken, faulty and older ones.

mod evolution;
mod libraries;
