//! Greeter: an extension for Perl, written on perlxs alone.

#![allow(non_snake_case)] // the name that perl's loader asks for

use perlxs::{Answer, Args, Attach, Error, Handler, Object, Perl, Sv};
use std::ffi::CString;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

static ALIVE: AtomicI64 = AtomicI64::new(0);

/// What hangs on an object of Perl's: the name that is greeted.
struct Greeter(Vec<u8>);

impl Attach for Greeter {}

/// The destructor. It runs when nothing in Perl refers to the object any more.
impl Drop for Greeter {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Relaxed);
    }
}

/// The text as C wants it; none of ours has a NUL in it.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn new(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let name = args.get(1).bytes(perl, &c_string("Greeter->new"))?;
    let name = name.ok_or_else(|| Error::message("Greeter->new: a name is missing"))?;
    let reference = Sv::object(perl, &c_string("Greeter"), 0);
    if let Some(object) = Object::of(perl, reference.as_arg())? {
        ALIVE.fetch_add(1, Relaxed);
        object.attach(perl, Rc::new(Greeter(name.to_vec())));
    }
    Ok(Answer::Sv(reference))
}

fn greeting(perl: &mut Perl, args: Args<'_>) -> Result<Sv, Error> {
    let greeter = Object::of(perl, args.get(0))?.and_then(|object| object.attached::<Greeter>());
    let greeter = greeter.ok_or_else(|| Error::message("Greeter: this is none"))?;
    Ok(Sv::bytes(perl, &[b"Hello, ", &greeter.0[..]].concat()))
}

fn greet(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    greeting(perl, args).map(Answer::Sv)
}

/// Hands the greeting to code of the program's. Where that dies, `?` returns, and the program
/// gets its exception when no frame of Rust is left.
fn greet_by(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let greeting = greeting(perl, args)?;
    let code = Handler::copy(perl, args.get(1))?;
    Ok(Answer::Int(code.call(perl, &[greeting.as_arg()])?.value))
}

fn alive(_: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    Ok(Answer::Int(ALIVE.load(Relaxed)))
}

perlxs::table! {
    package "Greeter";
    constants {}
    methods {
        new      ("$$") ("class, name") 2..=2 => new;
        greet    ("$")  ("self")        1..=1 => greet;
        greet_by ("$$") ("self, code")  2..=2 => greet_by;
        alive    ("")   ("")            0..=0 => alive;
    }
}

perlxs::sys::boot!(boot_Greeter, TABLE);
