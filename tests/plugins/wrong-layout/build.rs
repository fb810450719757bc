//! abi_stable takes a type's package from this variable. With the real one's name and version, only
//! the fields of the root module are left to tell this plugin from a good one.

fn main() {
    println!("cargo:rustc-env=CARGO_PKG_NAME=merv-plugin-api");
    println!("cargo:rustc-env=CARGO_PKG_VERSION=1.0.0");
    println!("cargo:rerun-if-changed=build.rs");
}
