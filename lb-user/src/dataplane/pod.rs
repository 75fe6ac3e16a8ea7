//! The one bridge between bytemuck's plain old data, which is checked, and aya's, which is sworn.

/// A value as the kernel holds it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Raw<T: bytemuck::Pod>(pub T);

// SAFETY: transparent over a type that has no padding and of which any bytes are a value.
unsafe impl<T: bytemuck::Pod> aya::Pod for Raw<T> {}
