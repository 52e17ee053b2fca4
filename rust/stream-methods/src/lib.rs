//! Sys::Virt::Stream: what each method does, a file for each concern.

#![forbid(unsafe_code)]

mod around;
mod callback;
mod calls;
mod errors;
mod events;
mod file;
mod handle;
mod handlers;
mod life;
mod phase;
mod recv;
mod recv_all;
mod reentrant;
mod send;
mod send_all;
mod socket;
mod socket_looped;
mod socket_pumped;
mod state;
mod transfer;
mod way;

// The unit tests have no perl around them.
#[cfg(test)]
#[link(name = "perl")]
extern "C" {}

perlxs::table! {
    package "Sys::Virt::Stream", reentrant reentrant::REENTRANT;

    constants {
        NONBLOCK = libvirt::NONBLOCK;
        EVENT_READABLE = libvirt::EVENT_READABLE;
        EVENT_WRITABLE = libvirt::EVENT_WRITABLE;
        EVENT_ERROR = libvirt::EVENT_ERROR;
        EVENT_HANGUP = libvirt::EVENT_HANGUP;
        RECV_STOP_AT_HOLE = libvirt::RECV_STOP_AT_HOLE;
    }

    methods {
        _new_obj        ("$;$")   ("con, flags=0")                               1..=2 => life::new_obj;
        finish          ("$")     ("st")                                         1..=1 => life::finish;
        abort           ("$")     ("st")                                         1..=1 => life::abort;
        DESTROY         ("$")     ("st_rv")                                      1..=1 => life::destroy;

        recv            ("$$$;$") ("st, data, nbytes, flags=0")                  3..=4 => recv::recv, fills at most recv::LIMIT => recv::PlainRecv;
        send            ("$$$")   ("st, data, nbytes")                           3..=3 => send::send, reads at most usize::MAX => send::PlainSend;
        recv_hole       ("$;$")   ("st, flags=0")                                1..=2 => recv::recv_hole;
        send_hole       ("$$;$")  ("st, lengthSV, flags=0")                      2..=3 => send::send_hole;

        recv_all        ("$$")    ("stref, handler")                             2..=2 => recv_all::recv_all;
        sparse_recv_all ("$$$")   ("stref, handler, hole_handler")               3..=3 => recv_all::sparse_recv_all;
        send_all        ("$$")    ("stref, handler")                             2..=2 => send_all::send_all;
        sparse_send_all ("$$$$")  ("stref, handler, hole_handler, skip_handler") 4..=4 => send_all::sparse_send_all;

        recv_file       ("$$@")   ("stref, target, ...")                         2..=30 => file::recv_file;
        send_file       ("$$@")   ("stref, source, ...")                         2..=30 => file::send_file;

        add_callback    ("$$$")   ("stref, events, cb")                          3..=3 => events::add_callback;
        update_callback ("$$")    ("st, events")                                 2..=2 => events::update_callback;
        remove_callback ("$")     ("st")                                         1..=1 => events::remove_callback;

        _open_handle    ("$$")    ("st, glob")                                   2..=2 => handle::open;
        _open_socket    ("$$$")   ("st, ours, theirs")                           3..=3 => socket::open;
        _handle_error   ("$")     ("object")                                     1..=1 => handle::error;
        _surround       ("")      ("")                                           0..=0 => around::surround;
        _release_callbacks ("")   ("")                                           0..=0 => events::release_all;
    }
}
