//! libvirt's own errors for what a call refuses.

use crate::stream::ready;
use crate::Error;
use std::os::raw::c_char;
use std::ptr;
use virt_sys as sys;

/// libvirt's calls, for the errors they give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Send,
    Recv,
    RecvFlags,
    RecvHole,
    SendHole,
    SendAll,
    RecvAll,
    SparseRecvAll,
    SparseSendAll,
    AddCallback,
    UpdateCallback,
    RemoveCallback,
    Finish,
    Abort,
}

impl Call {
    /// The error that this call gives for what is no stream.
    pub fn refusal(self) -> Error {
        ready();
        let st = ptr::null_mut();
        let null = ptr::null_mut();
        // SAFETY: each call refuses NULL before it looks at anything else.
        unsafe {
            match self {
                Call::Send => sys::virStreamSend(st, null as *const c_char, 0),
                Call::Recv => sys::virStreamRecv(st, null as *mut c_char, 0),
                Call::RecvFlags => sys::virStreamRecvFlags(st, null as *mut c_char, 0, 0),
                Call::RecvHole => sys::virStreamRecvHole(st, ptr::null_mut(), 0),
                Call::SendHole => sys::virStreamSendHole(st, 0, 0),
                Call::SendAll => sys::virStreamSendAll(st, None, null),
                Call::RecvAll => sys::virStreamRecvAll(st, None, null),
                Call::SparseRecvAll => sys::virStreamSparseRecvAll(st, None, None, null),
                Call::SparseSendAll => sys::virStreamSparseSendAll(st, None, None, None, null),
                Call::AddCallback => sys::virStreamEventAddCallback(st, 0, None, null, None),
                Call::UpdateCallback => sys::virStreamEventUpdateCallback(st, 0),
                Call::RemoveCallback => sys::virStreamEventRemoveCallback(st),
                Call::Finish => sys::virStreamFinish(st),
                Call::Abort => sys::virStreamAbort(st),
            };
        }
        Error::last()
    }
}
