//! A socket whose data threads move.

use crate::errors::exception;
use crate::phase::Ways;
use crate::socket::{no_socket, Settled, Socket};
use crate::state::State;
use libvirt::socket::{Directions, End, Progress, Pumped, Refused};
use perlxs::{Error, Perl, Woken};
use std::cell::RefCell;
use std::rc::Rc;

pub struct Pump(RefCell<Pumped>);

pub fn start(
    perl: &mut Perl,
    state: &Rc<State>,
    end: End,
    ways: Ways,
    first: Vec<u8>,
) -> Result<(), Error> {
    let directions = Directions {
        receives: ways.receives,
        sends: ways.sends,
    };
    let started = Pumped::start(&state.stream, end, directions, first);
    match started {
        Ok(pumped) => {
            state.set_socket(Socket::Pumped(Rc::new(Pump(RefCell::new(pumped)))));
            Ok(())
        }
        Err(Refused::System(error)) => Err(no_socket(perl, &error)),
        Err(Refused::Libvirt(error)) => Err(exception(perl, error)),
        Err(Refused::TwoWays) => {
            let why = "a socket both ways needs a daemon or an event loop";
            Err(exception(perl, libvirt::Error::invalid(why)))
        }
    }
}

impl Pump {
    /// Waits until all has been moved. Signal handlers run meanwhile.
    pub fn settle(&self, perl: &mut Perl) -> Result<Settled, Error> {
        loop {
            let bell = self.0.borrow_mut().bell();
            let bell = bell.map_err(|error| no_socket(perl, &error))?;
            match self.0.borrow().progress() {
                Progress::Done => return Ok(Settled::Done),
                Progress::Open => return Ok(Settled::Open),
                Progress::Failed(error) => return Ok(Settled::Failed(error)),
                Progress::Moving => {}
            }
            if perl.wait(bell, None)? == Woken::Signal {
                perl.run_signal_handlers()?;
            }
        }
    }
}
