//! Code of the program's that a method calls.

use crate::perl::Job;
use crate::{Arg, Error, Perl, Sv};
use perl_sys as sys;

/// A code reference, or anything else that `call_sv` takes. It owns a count of the scalar, and
/// what the code throws is the error of each call.
pub struct Handler(Sv);

/// What a handler returned, and `errno` as it left it (0 where it did not set it).
pub struct Returned {
    /// The value as an integer; 0 for undef.
    pub value: i64,
    /// Whether there is a value.
    pub defined: bool,
    /// The system's number of an error, as the code has left it.
    pub errno: i32,
}

impl Handler {
    /// Keeps the scalar itself, as the C binding does: each call is of what it holds then.
    pub fn keep(perl: &Perl, code: Arg<'_>) -> Handler {
        Handler(code.keep(perl))
    }

    /// Keeps a copy: what the program's variable holds later does not matter.
    pub fn copy(perl: &mut Perl, code: Arg<'_>) -> Result<Handler, Error> {
        code.copy(perl).map(Handler)
    }

    fn job<'p>(&self, perl: &'p mut Perl, args: &[*mut sys::Sv]) -> Job<'p> {
        let mut job = Job::new(perl);
        job.raw.code = self.0.raw();
        job.raw.args = args.as_ptr();
        job.raw.argc = args.len();
        job
    }

    /// Calls it in scalar context, and reads what it returns as an integer.
    pub fn call(&self, perl: &mut Perl, args: &[Arg<'_>]) -> Result<Returned, Error> {
        let args = raw(args);
        let mut job = self.job(perl, &args);
        job.run(sys::plx_do_call)?;
        Ok(Returned {
            value: job.raw.iv[0],
            defined: job.raw.defined != 0,
            errno: job.raw.error,
        })
    }

    /// Calls it in scalar context, and looks at nothing it returns.
    pub fn call_discard(&self, perl: &mut Perl, args: &[Arg<'_>]) -> Result<(), Error> {
        let args = raw(args);
        self.job(perl, &args).run(sys::plx_do_call_discard)
    }

    /// Calls it in list context: the two integers it returns, or else `errno`.
    /// Two values that are not both defined count as none if `errno` was set.
    pub fn call_pair(
        &self,
        perl: &mut Perl,
        args: &[Arg<'_>],
    ) -> Result<Result<(i64, i64), i32>, Error> {
        let args = raw(args);
        let mut job = self.job(perl, &args);
        job.run(sys::plx_do_call_pair)?;
        let failed = job.raw.defined == 0 && job.raw.error != 0;
        if job.raw.count != 2 || failed {
            return Ok(Err(job.raw.error));
        }
        Ok(Ok((job.raw.iv[0], job.raw.iv[1])))
    }
}

fn raw(args: &[Arg<'_>]) -> Vec<*mut sys::Sv> {
    args.iter().map(|arg| arg.raw()).collect()
}
