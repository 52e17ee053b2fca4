//! Compiles the C boundary with the flags of the perl that will load it.
//!
//! Environment: `PERL` (the perl; default `perl`), `PERL_XS_NAME` (the package,
//! default `Sys::Virt::Stream`) and `PERL_XS_VERSION` (what its .pm says).

use std::env;
use std::process::Command;

fn config(perl: &str, key: &str) -> String {
    let script = format!("use Config; print $Config{{{key}}} // ''");
    let out = Command::new(perl)
        .args(["-e", &script])
        .output()
        .unwrap_or_else(|e| panic!("cannot run {perl}: {e}; set PERL to the perl to build for"));
    assert!(out.status.success(), "{perl} -e '{script}' failed");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn main() {
    for key in ["PERL", "PERL_XS_NAME", "PERL_XS_VERSION"] {
        println!("cargo:rerun-if-env-changed={key}");
    }
    for file in [
        "boundary.h",
        "plain.h",
        "protect.c",
        "around.c",
        "jobs.c",
        "handle.c",
        "data.c",
        "boot.c",
    ] {
        println!("cargo:rerun-if-changed=src/{file}");
    }
    let perl = env::var("PERL").unwrap_or_else(|_| "perl".into());
    let package = env::var("PERL_XS_NAME").unwrap_or_else(|_| "Sys::Virt::Stream".into());
    let version = env::var("PERL_XS_VERSION").unwrap_or_else(|_| env!("CARGO_PKG_VERSION").into());
    let core = format!("{}/CORE", config(&perl, "archlibexp"));

    // Another perl, or the same one built anew, has another of these.
    println!("cargo:rerun-if-changed={core}/config.h");

    println!("cargo:rustc-check-cfg=cfg(iv64)");
    if config(&perl, "ivsize") == "8" {
        println!("cargo:rustc-cfg=iv64");
    }

    println!("cargo:rustc-check-cfg=cfg(multiplicity)");
    if config(&perl, "usemultiplicity") == "define" {
        println!("cargo:rustc-cfg=multiplicity");
    }

    let mut build = cc::Build::new();
    for key in ["ccflags", "optimize"] {
        for flag in config(&perl, key).split_whitespace() {
            build.flag(flag);
        }
    }
    // Perl's headers are its own business: as system headers they warn about nothing.
    build.flag("-isystem").flag(&core);
    build
        .define("PLX_PACKAGE", &*format!("\"{package}\""))
        .define("XS_VERSION", &*format!("\"{version}\""))
        .warnings(true)
        .extra_warnings(false)
        .pic(true)
        .files(
            ["protect", "around", "jobs", "handle", "data", "boot"].map(|f| format!("src/{f}.c")),
        )
        .compile("plx");

    // Test programs have a libperl linked, which is there; the module finds its perl in the
    // process that loads it.
    println!("cargo:rustc-link-search=native={core}");
}
