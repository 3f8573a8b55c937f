//! Finds DPDK, generates the bindings, compiles the shim and names the libraries to link.
//!
//! Each thing that may be missing ends the build with one line that says which package to install.

#[path = "build/bindings.rs"]
mod bindings;
#[path = "build/link.rs"]
mod link;

use std::process::{Command, exit};

/// Oldest DPDK whose interfaces this crate uses.
const OLDEST: &str = "22.11";

fn main() {
    for path in ["build.rs", "build/bindings.rs", "build/link.rs", "shim.c", "shim.h"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let version = find_dpdk();
    let flags = compiler_flags();
    println!("cargo::metadata=version={version}");

    bindings::generate(&flags);
    let mut shim = cc::Build::new();
    shim.file("shim.c").opt_level(3).warnings(true);
    for flag in &flags {
        shim.flag(flag);
    }
    if let Err(error) = shim.try_compile("sluice_shim") {
        fail(&format!("the C shim does not compile against DPDK {version}: {error}"));
    }
    link::emit();
}

/// The version of the installed DPDK.
fn find_dpdk() -> String {
    // Without cargo_metadata: the crate reorders DPDK's whole-archive flags, so `link` emits the lines itself.
    match pkg_config::Config::new().cargo_metadata(false).atleast_version(OLDEST).probe("libdpdk") {
        Ok(library) => library.version,
        Err(pkg_config::Error::Command { .. }) => {
            fail("pkg-config does not run: apt-get install pkg-config libdpdk-dev")
        }
        Err(_) => match pkg_config("--modversion") {
            Some(found) => {
                fail(&format!("DPDK {found} is too old, {OLDEST} or newer is needed: libdpdk-dev"))
            }
            None => fail(&format!("DPDK ({OLDEST} or newer) is not installed: apt-get install libdpdk-dev")),
        },
    }
}

/// DPDK's compiler flags, all of them and in order: the headers need `-include rte_config.h` and the `-march` that the
/// library was built for (at least SSSE3 on `x86_64`), which the pkg-config crate drops.
fn compiler_flags() -> Vec<String> {
    let flags = pkg_config("--cflags").unwrap_or_default();
    flags.split_whitespace().map(String::from).collect()
}

/// What `pkg-config <query> libdpdk` prints; `None` if it fails.
fn pkg_config(query: &str) -> Option<String> {
    let program = std::env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(program).args([query, "libdpdk"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Ends the build with one line: an error that is reported fails the build, while a failing status would make cargo print
/// all output of the script as well.
fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(0)
}
