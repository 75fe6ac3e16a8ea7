//! Batch operations on maps, which aya has not: one system call for thousands of elements
//! (`BPF_MAP_LOOKUP_BATCH`, `BPF_MAP_UPDATE_BATCH`, Linux 5.6; include/uapi/linux/bpf.h).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use bytemuck::{Pod, Zeroable};

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// `union bpf_attr`'s `batch` member.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `bpf(2)`; `attr.count` is what the kernel says it handled, also where it fails.
fn bpf(command: libc::c_long, attr: &mut BatchAttr) -> io::Result<()> {
    // SAFETY: the attribute outlives the call and its size is given. Its pointers are to buffers
    // that the callers below keep alive and size by the count that they pass.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<BatchAttr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn raw_fd(map: BorrowedFd<'_>) -> u32 {
    u32::try_from(map.as_raw_fd()).expect("an open file descriptor is not negative")
}

/// Reads every element of a hash map, `size` at a time, into `each`.
///
/// Elements that come or go meanwhile may be seen or not; an element that stays is seen. Each
/// batch locks a bucket of the table at a time, so packets do not wait.
///
/// # Errors
///
/// What the kernel answered. `size` grows where a bucket holds more elements than that.
pub fn read_all<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mut size: usize,
    mut each: impl FnMut(&[K], &[V]),
) -> io::Result<()> {
    let mut keys = vec![K::zeroed(); size];
    let mut values = vec![V::zeroed(); size];
    let mut from = 0_u32;
    let mut to = 0_u32;
    let mut first = true;
    loop {
        let mut attr = BatchAttr {
            in_batch: if first { 0 } else { std::ptr::from_ref(&from) as u64 },
            out_batch: std::ptr::from_mut(&mut to) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(size).unwrap_or(u32::MAX),
            map_fd: raw_fd(map),
            ..BatchAttr::default()
        };
        let result = bpf(BPF_MAP_LOOKUP_BATCH, &mut attr);
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::ENOSPC)) => {
                size *= 2;
                keys.resize(size, K::zeroed());
                values.resize(size, V::zeroed());
                continue;
            }
            Err(Some(libc::EINTR)) => continue,
            Ok(()) | Err(Some(libc::ENOENT)) => {}
            Err(_) => return result,
        }
        let count = attr.count as usize;
        each(&keys[..count], &values[..count]);
        if result.is_err() {
            return Ok(());
        }
        from = to;
        first = false;
    }
}

/// Writes elements of an array from index zero on.
///
/// # Errors
///
/// What the kernel answered.
pub fn write_array<V: Pod>(map: BorrowedFd<'_>, values: &[V]) -> io::Result<()> {
    let count = u32::try_from(values.len()).map_err(io::Error::other)?;
    let keys: Vec<u32> = (0..count).collect();
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: raw_fd(map),
        ..BatchAttr::default()
    };
    bpf(BPF_MAP_UPDATE_BATCH, &mut attr)
}
