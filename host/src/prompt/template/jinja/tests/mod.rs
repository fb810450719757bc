//! Templates as Jinja2 renders them, and templates made to do harm.

mod hostile;
mod parity;
