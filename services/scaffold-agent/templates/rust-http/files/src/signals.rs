//! SIGTERM and SIGINT. The standard library has no signals, so this calls two functions of the C library
//! that it is linked with anyway.

use std::{
    ffi::c_int,
    io::{self, Read},
    os::{fd::IntoRawFd, unix::net::UnixStream},
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
/// What `signal` gives when it failed.
const SIG_ERR: usize = usize::MAX;

/// The end of a socket pair that a signal writes to.
static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" {
    fn signal(number: c_int, action: extern "C" fn(c_int)) -> usize;
    fn write(file: c_int, bytes: *const u8, count: usize) -> isize;
}

extern "C" fn wake(_number: c_int) {
    // SAFETY: `write` may be called in a signal handler, and the byte lives for ever.
    unsafe { write(WAKE.load(Ordering::SeqCst), b"!".as_ptr(), 1) };
}

/// Calls `action` once, on a thread of its own, when the process is asked to stop.
pub fn on_stop(action: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (mut waiting, waking) = UnixStream::pair()?;
    WAKE.store(waking.into_raw_fd(), Ordering::SeqCst);
    thread::Builder::new().spawn(move || {
        if waiting.read_exact(&mut [0]).is_ok() {
            action();
        }
    })?;
    for number in [SIGINT, SIGTERM] {
        // SAFETY: the action does nothing but what a signal handler may do.
        if unsafe { signal(number, wake) } == SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
