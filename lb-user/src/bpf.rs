//! The commands of `bpf(2)` that aya has not: map operations on thousands of elements at once
//! (`BPF_MAP_LOOKUP_BATCH`, `BPF_MAP_UPDATE_BATCH`, Linux 5.6), the number of an inner map without opening
//! it (`BPF_MAP_LOOKUP_ELEM`), detaching a link at once (`BPF_LINK_DETACH`, Linux 5.9), which interface a
//! link holds (`BPF_OBJ_GET_INFO_BY_FD`), and pins. See include/uapi/linux/bpf.h. All raw system calls are
//! here.

use std::{
    ffi::CString,
    io,
    ops::ControlFlow,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::maps::MapInfo;
use bytemuck::{Pod, Zeroable};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_DETACH: libc::c_long = 34;

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

/// `union bpf_attr`'s member of the commands for one element.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct ElementAttr {
    map_fd: u32,
    reserved: u32,
    key: u64,
    /// The value, or the next key.
    value: u64,
    flags: u64,
}

/// `union bpf_attr`'s member of `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr`'s member of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`, as far as an XDP program's link fills it in.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
    interface: u32,
    padding: u32,
}

/// What a link of an XDP program holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The program's id.
    pub program: u32,
    /// The interface's index; zero where it holds none any more.
    pub interface: u32,
}

/// `union bpf_attr`'s `link_detach` member.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct LinkAttr {
    link_fd: u32,
}

/// Calls `bpf(2)`. The kernel may write to the attribute, also where it fails.
fn bpf<A: Pod>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the attribute outlives the call and its size is given. Its pointers are to buffers
    // that the callers below keep alive, of the sizes that they pass.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Detaches the link pinned at `path`, and returns once it is: to unpin a link detaches it too, but
/// some time later.
///
/// # Errors
///
/// What the kernel answered.
pub fn detach_link(path: &Path) -> io::Result<()> {
    let link = open_pin(path)?;
    bpf(BPF_LINK_DETACH, &mut LinkAttr { link_fd: raw_fd(link.as_fd()) }).map(drop)
}

/// What a link of an XDP program holds; the interface is one of the calling thread's network namespace, or of
/// another one that it was moved to, and zero where it was deleted.
///
/// # Errors
///
/// What the kernel answered.
pub fn link(link: BorrowedFd<'_>) -> io::Result<Link> {
    let mut info = LinkInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: raw_fd(link),
        info_len: u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(Link { program: info.program, interface: info.interface })
}

/// Opens what is pinned at `path`: a program, a link or a map.
///
/// # Errors
///
/// What the kernel answered.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr { pathname: name.as_ptr() as u64, ..ObjectAttr::default() };
    let fd = i32::try_from(bpf(BPF_OBJ_GET, &mut attr)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a program, a link or a map at `path`, where nothing may be yet.
///
/// # Errors
///
/// What the kernel answered.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr {
        pathname: name.as_ptr() as u64,
        bpf_fd: raw_fd(object),
        ..ObjectAttr::default()
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

fn raw_fd(map: BorrowedFd<'_>) -> u32 {
    // An open file descriptor is not negative.
    map.as_raw_fd().unsigned_abs()
}

/// Reads the element of a map under a key. Of a map of maps it is the inner one's number.
///
/// # Errors
///
/// What the kernel answered; `NotFound` where there is no such element.
pub fn lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut value = V::zeroed();
    let mut attr = ElementAttr {
        map_fd: raw_fd(map),
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut value) as u64,
        ..ElementAttr::default()
    };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Reads every element of a hash map, `size` at a time, into `each`.
///
/// # Errors
///
/// As of [`read_while`].
pub fn read_all<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    size: usize,
    mut each: impl FnMut(&[K], &[V]),
) -> io::Result<()> {
    read_while(map, size, |keys, values| {
        each(keys, values);
        ControlFlow::Continue(())
    })
}

/// Reads the elements of a hash map, `size` at a time, into `each`, until it breaks off or has them all.
///
/// Elements that come or go meanwhile may be seen or not; an element that stays is seen. Each
/// batch locks a bucket of the table at a time, so packets do not wait.
///
/// # Errors
///
/// What the kernel answered. `size` grows where a bucket holds more elements than that.
pub fn read_while<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mut size: usize,
    mut each: impl FnMut(&[K], &[V]) -> ControlFlow<()>,
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
        match result.as_ref().map(drop).map_err(io::Error::raw_os_error) {
            Err(Some(libc::ENOSPC)) => {
                size *= 2;
                keys.resize(size, K::zeroed());
                values.resize(size, V::zeroed());
                continue;
            }
            Err(Some(libc::EINTR)) => continue,
            Ok(()) | Err(Some(libc::ENOENT)) => {}
            Err(_) => return result.map(drop),
        }
        let count = attr.count as usize;
        let goes_on = each(&keys[..count], &values[..count]);
        if goes_on.is_break() || result.is_err() {
            return Ok(());
        }
        from = to;
        first = false;
    }
}

/// How many elements the hash map pinned at `path` has, whatever its keys and values are; roughly, where
/// they come and go.
///
/// # Errors
///
/// What the kernel answered.
pub fn count(path: &Path) -> anyhow::Result<u64> {
    let info = MapInfo::from_pin(path)?;
    let map = open_pin(path)?;
    let size = info.key_size() as usize;
    let (mut key, mut next) = (vec![0_u8; size], vec![0_u8; size]);
    for count in 0..u64::from(info.max_entries()) {
        let mut attr = ElementAttr {
            map_fd: raw_fd(map.as_fd()),
            key: if count == 0 { 0 } else { key.as_ptr() as u64 },
            value: next.as_mut_ptr() as u64,
            ..ElementAttr::default()
        };
        match bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) {
            Ok(_) => std::mem::swap(&mut key, &mut next),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(u64::from(info.max_entries()))
}

/// Writes elements of an array from index zero on.
///
/// # Errors
///
/// What the kernel answered.
pub fn write_array<V: Pod>(map: BorrowedFd<'_>, values: &[V]) -> io::Result<()> {
    let count = u32::try_from(values.len()).map_err(io::Error::other)?;
    let keys: Vec<u32> = (0..count).collect();
    write_elements(map, &keys, values)
}

/// Writes the elements of an array that have these indices, a value for each. In an array of maps a value
/// is the descriptor of one; the kernel waits once for the programs that look at those that were there.
///
/// # Errors
///
/// What the kernel answered: `EOPNOTSUPP` or `ENOTSUPP` (524) where it does this one by one alone.
pub fn write_elements<V: Pod>(map: BorrowedFd<'_>, keys: &[u32], values: &[V]) -> io::Result<()> {
    if keys.len() != values.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let count = u32::try_from(values.len()).map_err(io::Error::other)?;
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: raw_fd(map),
        ..BatchAttr::default()
    };
    bpf(BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}
