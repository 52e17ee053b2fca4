//! What stands behind the filehandle over a stream (lib/Sys/Virt/Stream/Handle.pm).

use crate::errors::exception;
use crate::handlers::misuse;
use crate::phase::Phase;
use crate::state::{stream_of, State};
use crate::{life, recv, send};
use libvirt::{Call, Received, Ways};
use perlxs::{Answer, Args, Attach, Error, Layer, Object, Perl, Refused, Sv};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::rc::Rc;

/// Which way the data goes where it goes one way only.
const UPLOAD: Phase = Phase::Open(Ways {
    receives: false,
    sends: true,
});
const DOWNLOAD: Phase = Phase::Open(Ways {
    receives: true,
    sends: false,
});

struct Handle {
    state: Rc<State>,
    /// Perl's own object, while the handle is in use.
    stream: RefCell<Option<Sv>>,
    error: RefCell<Option<Sv>>,
    ended: Cell<bool>,
}

/// `_open_handle(st, glob)`
pub fn open(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "handle", Call::Recv)?;
    state.has_no_socket().map_err(|e| exception(perl, e))?;
    if state.is_nonblocking() {
        return Err(misuse(perl, "handle", NONBLOCKING));
    }
    let class = CStr::from_bytes_with_nul(b"Sys::Virt::Stream::Handle::Tied\0").unwrap_or_default();
    let object = Sv::object(perl, class, 0);
    let handle = Handle {
        state,
        stream: RefCell::new(Some(args.get(0).copy(perl)?)),
        error: RefCell::default(),
        ended: Cell::default(),
    };
    if let Some(object) = Object::of(perl, object.as_arg())? {
        object.attach(perl, Rc::new(handle));
    }
    perl.open_layer::<Handle>(args.get(1), object)?;
    Ok(Answer::Empty)
}

/// `_handle_error(object)`
pub fn error(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let handle = Object::of(perl, args.get(0))?.and_then(|o| o.attached::<Handle>());
    let error = handle.and_then(|handle| handle.failed(perl));
    Ok(Answer::Sv(error.unwrap_or_else(|| Sv::undef(perl))))
}

const NONBLOCKING: &str = "the stream does not block";

impl Attach for Handle {}

impl Handle {
    /// What it has failed with.
    fn failed(&self, perl: &Perl) -> Option<Sv> {
        let error = self.error.borrow();
        error.as_ref().map(|error| error.as_arg().keep(perl))
    }

    /// Makes a call on the stream. If it fails, the stream is aborted, and no other follows.
    fn call<T>(
        &self,
        perl: &mut Perl,
        work: impl FnOnce(&mut Perl, &State) -> Result<T, Error>,
    ) -> Result<T, Refused> {
        if let Some(error) = self.failed(perl) {
            return Err(Refused::Failed(error));
        }
        if self.stream.borrow().is_none() || self.state.stream.is_inherited() {
            return Err(Refused::Closed);
        }
        let error = match work(perl, &self.state) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        perl.lend_after_error(|| self.let_go());
        self.error.replace(match &error {
            Error::Object(error) => Some(error.as_arg().keep(perl)),
            _ => perl.thrown(),
        });
        Err(match error {
            Error::Object(error) => Refused::Failed(error),
            other => Refused::Thrown(other),
        })
    }

    fn let_go(&self) {
        libvirt::keeping_errno(|| self.state.abandon());
        self.stream.take();
    }
}

impl Layer for Handle {
    fn fill(&self, perl: &mut Perl, most: usize) -> Result<Vec<u8>, Refused> {
        if self.state.phase() == UPLOAD {
            return Err(Refused::Closed);
        }
        if self.ended.get() {
            return Ok(Vec::new());
        }
        let bytes = self.call(perl, |perl, state| {
            if state.unread().is_empty() {
                match recv::fill(perl, state, most, 0)? {
                    Received::Data(_) => {}
                    _ => return Err(misuse(perl, "handle", NONBLOCKING)),
                }
            }
            Ok(state.unread().take_vec(most))
        })?;
        self.ended.set(bytes.is_empty());
        Ok(bytes)
    }

    fn drain(&self, perl: &mut Perl, bytes: &[u8]) -> Result<(), Refused> {
        if self.state.phase() == DOWNLOAD {
            return Err(Refused::Closed);
        }
        self.call(perl, |perl, state| match send::whole(perl, state, bytes)? {
            true => Ok(()),
            false => Err(misuse(perl, "handle", NONBLOCKING)),
        })
    }

    fn finish(&self, perl: &mut Perl) -> Result<(), Refused> {
        self.call(perl, life::complete)?;
        self.stream.take();
        Ok(())
    }

    fn abandon(&self, perl: &mut Perl) -> Result<(), Refused> {
        self.call(perl, |perl, _| perl.lend(|| self.let_go()))
    }

    /// An upload can wait for the rest of a block; a console cannot.
    fn keeps(&self) -> bool {
        self.state.phase() == UPLOAD && !self.state.stream.is_inherited()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.stream.get_mut().is_some() {
            self.let_go();
        }
    }
}
