//! abi_stable takes a type's package from these variables: the types here stand for those of the API's
//! version 1.0.

fn main() {
    println!("cargo:rustc-env=CARGO_PKG_NAME=merv-plugin-api");
    println!("cargo:rustc-env=CARGO_PKG_VERSION=1.0.0");
    println!("cargo:rerun-if-changed=build.rs");
}
