//! abi_stable reads the package of a type from these variables. The types here represent those of version 1.0 of the API.

fn main() {
    println!("cargo:rustc-env=CARGO_PKG_NAME=merv-plugin-api");
    println!("cargo:rustc-env=CARGO_PKG_VERSION=1.0.0");
    println!("cargo:rerun-if-changed=build.rs");
}
