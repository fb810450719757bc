//! The commands of `merv-host` as users run them: arguments, output and documentation.

mod arguments;
mod convert;
mod deep_files;
mod info;
mod install;
mod out_of_memory;
mod output;
mod packages;
mod plot;
mod readme;
mod reference;
mod synth;
mod text_files;
