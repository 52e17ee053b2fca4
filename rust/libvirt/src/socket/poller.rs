//! What waits for many descriptors.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use super::epoll::Poller;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub use super::no_epoll::Poller;

/// What a descriptor is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    Readable,
    Writable,
}
