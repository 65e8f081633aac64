//! What the kernel calls the protocol of a socket that some process holds.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The attribute of every socket's file (`net/socket.c`, `sockfs_xattr_get`).
const NAME: &CStr = c"system.sockprotoname";

/// Such as `UDP`, `UNIX-STREAM` or `AF_VSOCK`, for a descriptor below `/proc/PID/fd`; none where it is no socket, or may not be
/// looked at.
pub(crate) fn protocol(descriptor: &Path) -> Option<String> {
    let path = CString::new(descriptor.as_os_str().as_bytes()).ok()?;
    let mut name = [0_u8; 64];
    // SAFETY: both strings end with NUL, and `name` is as long as is said and lives across the call.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), NAME.as_ptr(), name.as_mut_ptr().cast(), name.len())
    };
    let name = name.get(..usize::try_from(length).ok()?)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(name).into_owned())
}
