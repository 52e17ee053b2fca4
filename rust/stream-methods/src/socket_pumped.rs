//! A socket whose data threads move.

use crate::errors::{exception, no_socket};
use crate::state::{Settled, Socket, State};
use libvirt::socket::{NoSocket, Progress, Pumped, SocketEnd};
use libvirt::Ways;
use perlxs::{Error, Perl, Woken};
use std::cell::RefCell;
use std::rc::Rc;

pub struct Pump(RefCell<Pumped>);

impl Pump {
    pub fn start(
        perl: &mut Perl,
        state: &Rc<State>,
        end: SocketEnd,
        ways: Ways,
        first: Vec<u8>,
    ) -> Result<(), Error> {
        match Pumped::start(&state.stream, end, ways, first) {
            Ok(pumped) => {
                state.set_socket(Rc::new(Pump(RefCell::new(pumped))));
                Ok(())
            }
            Err(NoSocket::System(error)) => Err(no_socket(perl, &error)),
            Err(NoSocket::Libvirt(error)) => Err(exception(perl, error)),
            Err(NoSocket::TwoWays) => {
                let why = "a socket both ways needs a daemon or an event loop";
                Err(exception(perl, libvirt::Error::invalid(why)))
            }
        }
    }
}

impl Socket for Pump {
    /// Signal handlers run meanwhile.
    fn settle(&self, perl: &mut Perl) -> Result<Settled, Error> {
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
