//! abi_stable takes a type's package from these variables: the types here stand for those of the real
//! API, one minor version on.

fn main() {
    println!("cargo:rustc-env=CARGO_PKG_NAME=merv-plugin-api");
    println!("cargo:rustc-env=CARGO_PKG_VERSION=1.2.0");
    println!("cargo:rerun-if-changed=build.rs");
}
