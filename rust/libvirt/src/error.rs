//! libvirt's errors, and what the system calls its own.

use std::ffi::CStr;

/// What `virGetLastError` said, or what a transfer has to say in the same form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub level: i32,
    pub code: i32,
    pub domain: i32,
    pub message: Vec<u8>,
}

impl Error {
    /// Takes the error of the last call on this thread.
    pub(crate) fn last() -> Error {
        // SAFETY: the error belongs to this thread; it is copied before the next call.
        unsafe {
            let last = virt_sys::virGetLastError();
            if last.is_null() {
                return Error {
                    level: 0,
                    code: 0,
                    domain: 0,
                    message: b"Unknown problem".to_vec(),
                };
            }
            let message = (*last).message;
            let error = Error {
                level: (*last).level as i32,
                code: (*last).code,
                domain: (*last).domain,
                message: if message.is_null() {
                    b"Unknown problem".to_vec()
                } else {
                    CStr::from_ptr(message).to_bytes().to_vec()
                },
            };
            virt_sys::virResetLastError();
            error
        }
    }

    /// Whether the stream's driver has no such call; an unopened stream has no driver.
    pub fn is_unsupported(&self) -> bool {
        self.code == virt_sys::VIR_ERR_NO_SUPPORT as i32
    }

    /// Whether the stream has ended already, or is not open.
    pub fn is_of_closed(&self) -> bool {
        self.code == virt_sys::VIR_ERR_OPERATION_FAILED as i32 || self.is_unsupported()
    }

    /// An error of the stream driver: `code` with a message of our own.
    fn of_streams(code: u32, message: Vec<u8>) -> Error {
        Error {
            level: virt_sys::VIR_ERR_ERROR as i32,
            code: code as i32,
            domain: virt_sys::VIR_FROM_STREAMS as i32,
            message,
        }
    }

    /// "WHAT failed: WHY", as libvirt's transfer loops report a handler's failure.
    pub fn handler(what: &str, why: &[u8]) -> Error {
        let mut message = format!("{} failed: ", what).into_bytes();
        message.extend_from_slice(why);
        Error::of_streams(virt_sys::VIR_ERR_SYSTEM_ERROR, message)
    }

    /// What `call` has to say of a stream that does not block, in the words that libvirt
    /// has for its own transfers.
    pub fn nonblocking(call: &str) -> Error {
        Error::invalid(&format!("{} cannot be used for non-blocking streams", call))
    }

    /// A call that cannot be made in the present state.
    pub fn invalid(why: &str) -> Error {
        let message = format!("Requested operation is not valid: {}", why);
        Error::of_streams(virt_sys::VIR_ERR_OPERATION_INVALID, message.into_bytes())
    }

    /// What libvirt says of a stream that has been aborted.
    pub fn closed() -> Error {
        let message = b"operation failed: stream is closed".to_vec();
        Error::of_streams(virt_sys::VIR_ERR_OPERATION_FAILED, message)
    }

    /// What libvirt says where it knows by itself that a stream goes one way only.
    pub fn one_way(what: &str) -> Error {
        let mut message = format!("cannot {} stream: ", what).into_bytes();
        message.extend_from_slice(&reason(libc::EBADF));
        Error::of_streams(virt_sys::VIR_ERR_SYSTEM_ERROR, message)
    }

    pub fn unanswered() -> Error {
        let message = b"Timed out during operation: the call has not been answered".to_vec();
        Error::of_streams(virt_sys::VIR_ERR_OPERATION_TIMEOUT, message)
    }

    /// What libvirt says of a second callback on a stream of a daemon's.
    pub fn second_callback() -> Error {
        let message = b"internal error: multiple stream callbacks not supported".to_vec();
        Error {
            domain: virt_sys::VIR_FROM_RPC as i32,
            ..Error::of_streams(virt_sys::VIR_ERR_INTERNAL_ERROR, message)
        }
    }

    /// A hole of a negative length.
    pub fn hole(length: i64) -> Error {
        let message = format!(
            "invalid argument: a hole of {} bytes; its length is at least 0",
            length
        );
        Error::of_streams(virt_sys::VIR_ERR_INVALID_ARG, message.into_bytes())
    }

    /// Flags for a hole: libvirt has none.
    pub fn hole_flags(flags: u32) -> Error {
        let message = format!(
            "unsupported flags (0x{:x}) in function virFDStreamSendHole",
            flags
        );
        Error::of_streams(virt_sys::VIR_ERR_INVALID_ARG, message.into_bytes())
    }

    /// What is said of a stream in a child of the process that opened it.
    pub fn inherited() -> Error {
        Error::invalid("the stream belongs to the process that made it")
    }

    /// No memory for `bytes` bytes.
    pub fn memory(bytes: usize) -> Error {
        let message = format!("out of memory: no room for {} bytes", bytes);
        Error::of_streams(virt_sys::VIR_ERR_NO_MEMORY, message.into_bytes())
    }
}

/// The system's text for an `errno`.
pub fn reason(errno: i32) -> Vec<u8> {
    let mut buffer = [0u8; 256];
    // SAFETY: the XSI strerror_r writes a terminated string within the buffer.
    unsafe {
        libc::strerror_r(
            errno,
            buffer.as_mut_ptr() as *mut libc::c_char,
            buffer.len(),
        );
    }
    let end = buffer.iter().position(|b| *b == 0).unwrap_or(buffer.len());
    buffer[..end].to_vec()
}
