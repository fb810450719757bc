//! Comparison with Jinja2, and hostile templates.

mod hostile;
mod parity;
