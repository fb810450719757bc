//! abi_stable reads the package of a type from these variables. The types here represent the next minor version of the
//! API.

fn main() {
    println!("cargo:rustc-env=CARGO_PKG_NAME=merv-plugin-api");
    println!("cargo:rustc-env=CARGO_PKG_VERSION=1.2.0");
    println!("cargo:rerun-if-changed=build.rs");
}
