//! Compiles the C boundary with the flags of the perl that will load it.
//!
//! Environment: `PERL` (the perl; default `perl`).

#[allow(dead_code)]
#[path = "src/shared.rs"]
mod shared;

use std::env;
use std::fmt::Write;
use std::mem::{size_of, MaybeUninit};
use std::path::Path;
use std::process::Command;

const SOURCES: &[&str] = &[
    "context",
    "protect",
    "contain",
    "frames",
    "signals",
    "call",
    "around",
    "jobs",
    "handle",
    "layer",
    "layer_object",
    "tied",
    "data",
    "objects",
    "table",
    "boot",
];

fn config(perl: &str, key: &str) -> String {
    let script = format!("use Config; print $Config{{{key}}} // ''");
    let out = Command::new(perl)
        .args(["-e", &script])
        .output()
        .unwrap_or_else(|e| panic!("cannot run {perl}: {e}; set PERL to the perl to build for"));
    assert!(out.status.success(), "{perl} -e '{script}' failed");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Assertions in C that a structure there is laid out as the one in shared.rs.
macro_rules! layout {
    ($text:ident: $($c:ident = $rust:ty { $($field:ident),* })*) => { $(
        let place = MaybeUninit::<$rust>::uninit();
        let start = place.as_ptr();
        let size = size_of::<$rust>();
        writeln!($text, "_Static_assert(sizeof({0}) == {1}, \"{0}\");", stringify!($c), size).unwrap();
        $(
            // SAFETY: an address within `place` is taken, and nothing is read.
            let at = unsafe { std::ptr::addr_of!((*start).$field) as usize } - start as usize;
            writeln!(
                $text,
                "_Static_assert(offsetof({0}, {1}) == {2}, \"{0}.{1}\");",
                stringify!($c), stringify!($field), at
            )
            .unwrap();
        )*
    )* };
}

fn layout() -> String {
    let mut text = String::from("#include \"boundary.h\"\n");
    layout! { text:
        plx_job = shared::Job { code, what, args, argc, sv, value, uv, iv, nv, count, defined, error }
        plx_answer = shared::Answer { verdict, iv, sv }
        plx_ready = shared::Ready { next, left }
        plx_attached = shared::Attached { drop, ready, slot }
        plx_plain = shared::Plain { attached, start, len, flags }
        plx_method = shared::Method { name, proto, usage, min, max, entry, plain, shape, most }
        plx_constant = shared::Constant { name, value }
        plx_table = shared::Table { package, version, install, enter, methods, nmethods, constants, nconstants, reentrant }
    }
    text
}

fn main() {
    println!("cargo:rerun-if-env-changed=PERL");
    println!("cargo:rerun-if-changed=src");
    let perl = env::var("PERL").unwrap_or_else(|_| "perl".into());
    let core = format!("{}/CORE", config(&perl, "archlibexp"));

    // Another perl, or the same one built anew, has another of these.
    println!("cargo:rerun-if-changed={core}/config.h");

    println!("cargo:rustc-check-cfg=cfg(multiplicity)");
    if config(&perl, "usemultiplicity") == "define" {
        println!("cargo:rustc-cfg=multiplicity");
    }

    let layouts = Path::new(&env::var("OUT_DIR").unwrap()).join("layout.c");
    std::fs::write(&layouts, layout()).unwrap();

    let mut build = cc::Build::new();
    for key in ["ccflags", "optimize"] {
        for flag in config(&perl, key).split_whitespace() {
            build.flag(flag);
        }
    }
    // Perl's headers are its own business: as system headers they warn about nothing.
    build.flag("-isystem").flag(&core);
    build
        .warnings(true)
        .extra_warnings(false)
        .pic(true)
        .include("src")
        .files(SOURCES.iter().map(|name| format!("src/{name}.c")))
        .file(&layouts)
        .compile("plx");

    // Test programs have a libperl linked, which is there; the module finds its perl in the
    // process that loads it.
    println!("cargo:rustc-link-search=native={core}");
}
