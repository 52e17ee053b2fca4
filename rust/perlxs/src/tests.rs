//! The vocabulary's invariants, in a Perl of the test's own.

use crate::{Arg, Chunk, Error, Handler, Named, Perl, Scratch, Sv};
use perl_sys as sys;
use std::ffi::{c_void, CStr, CString};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int};
use std::ptr;
use std::sync::{Mutex, Once};

#[link(name = "perl")]
extern "C" {
    fn perl_alloc() -> *mut c_void;
    fn perl_construct(perl: *mut c_void);
    fn perl_parse(
        perl: *mut c_void,
        xs_init: *const c_void,
        argc: c_int,
        argv: *const *const c_char,
        env: *const *const c_char,
    ) -> c_int;
    fn perl_destruct(perl: *mut c_void) -> c_int;
    fn perl_free(perl: *mut c_void);
    fn Perl_sys_init(argc: *mut c_int, argv: *mut *mut *mut c_char);
    fn Perl_free_tmps(perl: *mut c_void);
    fn Perl_eval_pv(perl: *mut c_void, code: *const c_char, croak: i32) -> *mut sys::Sv;
}

/// Runs `test` in a fresh interpreter, one at a time. A perl without threads has
/// other signatures for the functions above: there is nothing to run on one.
fn in_perl(test: impl FnOnce(&mut Perl)) {
    static ONE: Mutex<()> = Mutex::new(());
    static INIT: Once = Once::new();
    let perl = std::env::var("PERL").unwrap_or_else(|_| "perl".into());
    let threads = std::process::Command::new(perl)
        .arg("-V:usemultiplicity")
        .output();
    if !String::from_utf8_lossy(&threads.unwrap().stdout).contains("define") {
        let said = "not tested: this perl has no threads";
        assert!(
            std::env::var_os("SYS_VIRT_STREAM_TEST_ALL").is_none(),
            "{}",
            said
        );
        // Unlike eprintln, this is seen of a test that passes.
        writeln!(std::io::stderr(), "{}", said).unwrap();
        return;
    }
    let _one = ONE.lock().unwrap_or_else(|p| p.into_inner());
    let args: Vec<CString> = ["perl", "-e", "0"]
        .iter()
        .map(|a| CString::new(*a).unwrap())
        .collect();
    let argv: Vec<_> = args
        .iter()
        .map(|a| a.as_ptr())
        .chain([ptr::null()])
        .collect();
    // SAFETY: the order that perlembed asks for; `args` outlives the interpreter.
    unsafe {
        INIT.call_once(|| {
            let mut argv = argv.as_ptr() as *mut *mut c_char;
            Perl_sys_init(&mut 3, &mut argv);
        });
        let raw = perl_alloc();
        perl_construct(raw);
        assert_eq!(
            perl_parse(raw, ptr::null(), 3, argv.as_ptr(), ptr::null()),
            0
        );
        sys::plx_interpreter_init(raw);
        test(&mut Perl::from_raw(raw, ptr::null_mut()));
        perl_destruct(raw);
        perl_free(raw);
    }
}

fn eval(perl: &mut Perl, code: &str) -> Sv {
    let code = CString::new(code).unwrap();
    // SAFETY: the running interpreter; the result is copied before more runs.
    let value = unsafe { Arg::from_raw(Perl_eval_pv(perl.raw(), code.as_ptr(), 1)) };
    value.copy(perl).ok().unwrap()
}

fn number(perl: &mut Perl, code: &str) -> u64 {
    let sv = eval(perl, code);
    sv.as_arg().uv(perl).ok().unwrap()
}

fn handler(perl: &mut Perl, code: &str) -> Handler {
    let code = eval(perl, code);
    Handler::keep(perl, code.as_arg())
}

#[test]
fn an_exception_outside_of_a_method_ends_nothing() {
    in_perl(|perl| {
        let wide = eval(perl, "chr 256");
        assert!(matches!(
            wide.as_arg().bytes(perl, what()),
            Err(Error::Left)
        ));
        assert_eq!(number(perl, "40 + 2"), 42);
    });
}

fn what() -> &'static CStr {
    CStr::from_bytes_with_nul(b"test\0").unwrap()
}

#[test]
fn a_death_with_no_eval_around_ends_the_program_as_anywhere() {
    in_perl(|perl| {
        let dies = handler(
            perl,
            "our $in_eval; sub { $in_eval = $^S; die \"expected\\n\" }",
        );
        assert!(matches!(dies.call(perl, &[]), Err(Error::Left)));
        assert_eq!(number(perl, "$in_eval || 0"), 0);
        assert_eq!(number(perl, "40 + 2"), 42);
    });
}

#[test]
fn an_exit_is_a_value_and_perl_goes_on() {
    in_perl(|perl| {
        let exit = handler(perl, "sub { local $x = 1; exit 3 }");
        assert!(matches!(exit.call(perl, &[]), Err(Error::Left)));
        assert_eq!(number(perl, "40 + 2"), 42);
    });
}

#[test]
fn what_a_callback_leaves_in_the_error_variable_stays() {
    in_perl(|perl| {
        eval(perl, "$@ = 'before'; 1");
        let code = handler(
            perl,
            "our $seen; sub { $seen = $@; eval { die 'after' }; 7 }",
        );
        let set = handler(perl, "our $e; sub { $e = $@; 1 }");
        assert!(code.call(perl, &[]).map_or(false, |r| r.value == 7));
        assert!(set.call(perl, &[]).is_ok());
        assert_eq!(number(perl, "$e =~ /^after/ ? 1 : 0"), 1);
    });
}

#[test]
fn a_count_is_given_back() {
    in_perl(|perl| {
        eval(perl, "our $gone = 0; sub Some::DESTROY { $gone++ } 1");
        let held = eval(perl, "bless [], 'Some'");
        free_temporaries(perl);
        assert_eq!(number(perl, "$gone"), 0);
        drop(held); // no code runs yet: that is for the end of the statement
        free_temporaries(perl);
        assert_eq!(number(perl, "$gone"), 1);
    });
}

fn free_temporaries(perl: &mut Perl) {
    // SAFETY: the running interpreter, between statements.
    unsafe { Perl_free_tmps(perl.raw()) }
}

fn write(space: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    for (to, from) in space.iter_mut().zip(bytes) {
        to.write(*from);
    }
}

#[test]
fn nothing_a_handler_does_reaches_a_chunk() {
    in_perl(|perl| {
        let mischief = handler(
            perl,
            "our @kept; sub { push @kept, \\$_[0], \"$_[0]\"; $_[0] = 'else'; bless \\$_[0]; 1 }",
        );
        let mut chunk = Chunk::new(perl);
        let data = vec![b'x'; 20_000];
        for round in 0..3 {
            write(chunk.room(perl, data.len()).ok().flatten().unwrap(), &data);
            chunk.filled(data.len());
            for offset in [0, 1, 0] {
                let shown = chunk.from(perl, offset).ok().unwrap();
                let before = shown.bytes(perl, what()).ok().unwrap().unwrap();
                assert_eq!(&*before, &data[offset..], "round {}", round);
                let shown = shown.raw();
                // SAFETY: the chunk holds what it shows.
                let shown = unsafe { Arg::from_raw(shown) };
                assert!(mischief.call(perl, &[shown]).is_ok());
            }
        }
        assert_eq!(number(perl, "scalar grep { !ref && /^x+$/ } @kept"), 9);
        assert_eq!(
            number(perl, "scalar grep { ref && $$_ eq 'else' } @kept"),
            9
        );
    });
}

#[test]
fn a_scratch_scalar_serves_until_it_is_kept() {
    in_perl(|perl| {
        let mut scratch = Scratch::new(perl);
        let first = scratch.empty(perl).ok().unwrap().raw();
        assert_eq!(scratch.empty(perl).ok().unwrap().raw(), first);
        let kept = scratch.empty(perl).ok().unwrap().raw();
        // SAFETY: the scratch holds it.
        let kept = unsafe { Arg::from_raw(kept) }.keep(perl);
        assert_ne!(scratch.empty(perl).ok().unwrap().raw(), first);
        drop(kept);
    });
}

fn file(perl: &mut Perl, code: &str, writes: bool) -> Option<Named> {
    let sv = eval(perl, code);
    sv.as_arg().file(perl, what(), writes).ok()?.ok()
}

#[test]
fn a_file_is_a_path_or_a_handle() {
    in_perl(|perl| {
        assert!(matches!(file(perl, "'a/path'", false), Some(Named::Path(p)) if p == b"a/path"));
        // The bytes that open would take.
        assert!(matches!(file(perl, "chr 256", false), Some(Named::Path(p)) if p == [0xc4, 0x80]));
        let opened = "open our $fh, '<', '/dev/null' or die; ";
        for handle in ["$fh", "*$fh", "*$fh{IO}"] {
            let named = file(perl, &format!("{}{}", opened, handle), false);
            assert!(matches!(named, Some(Named::Handle(..))), "{}", handle);
        }
        for none in [
            "undef",
            "[]",
            "open my $fh, '<:utf8', '/dev/null'; $fh",
            "\\*NEVER_OPENED",
        ] {
            assert!(file(perl, none, false).is_none(), "{}", none);
        }
    });
}

#[test]
fn a_handles_descriptor_is_one_of_our_own() {
    in_perl(|perl| {
        let named = file(perl, "open our $fh, '<', '/dev/null' or die; $fh", false);
        let (handle, file) = match named {
            Some(Named::Handle(handle, file)) => (handle, file),
            _ => panic!("no handle"),
        };
        eval(perl, "close $fh; 1");
        assert!(file.metadata().is_ok());
        assert!(handle.unread(perl).map_or(false, |bytes| bytes.is_empty()));
        assert!(handle.reposition(perl).is_ok());
    });
}
