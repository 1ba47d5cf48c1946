//! The two calls that give a group of sockets its program, and take it away.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use super::program::{Instruction, Program};

/// The kernel's `struct sock_fprog`.
#[repr(C)]
struct Handed {
    length: u16,
    instructions: *const Instruction,
}

/// Has the group that `socket` listens in take sockets by `program`, or by hash again. Any socket of the group will do,
/// once it listens. What was attached before is replaced.
///
/// # Errors
/// The system's.
pub fn attach(socket: impl AsFd, program: Option<&Program>) -> io::Result<()> {
    let Some(Program(instructions)) = program else {
        let nothing: libc::c_int = 0;
        return match set(&socket, libc::SO_DETACH_REUSEPORT_BPF, &nothing) {
            // There was none.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            // Not a group: a lone socket takes everything anyway.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            done => done,
        };
    };
    let length = u16::try_from(instructions.len()).map_err(io::Error::other)?;
    set(&socket, libc::SO_ATTACH_REUSEPORT_CBPF, &Handed { length, instructions: instructions.as_ptr() })
}

#[expect(unsafe_code, reason = "no library has these two options")]
fn set<T>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the call, `value` is as long as is said, and what it points to (the
    // instructions of a program that is borrowed too) is only read, and copied before the call returns.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
