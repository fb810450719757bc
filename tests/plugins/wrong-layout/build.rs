//! abi_stable reads the package of a type from these variables. They have the real package's name and version, so only the
//! fields of the root module distinguish this plugin from a good one.

fn main() {
    println!("cargo:rustc-env=CARGO_PKG_NAME=merv-plugin-api");
    println!("cargo:rustc-env=CARGO_PKG_VERSION=2.0.0");
    println!("cargo:rerun-if-changed=build.rs");
}
