//! abi_stable reads the package of a type from these variables: the snapshot represents the real package.

fn main() {
    println!("cargo:rustc-env=CARGO_PKG_NAME=merv-plugin-api");
    println!("cargo:rustc-env=CARGO_PKG_VERSION=3.0.0");
    println!("cargo:rustc-cfg=next_major");
    println!("cargo:rerun-if-changed=build.rs");
}
