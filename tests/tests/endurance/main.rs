//! Faults of the balancer's own process, disk, file systems and limits, at load: no request fails where no
//! backend was cut, and nothing that was decided is lost.

#[cfg(test)]
mod bpffs;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod second;
