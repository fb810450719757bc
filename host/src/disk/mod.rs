//! Files that other processes, crashes and damaged disks cannot spoil: written whole or not at all, locked,
//! and checked when they are read again.

pub(crate) mod digest;
pub(crate) mod file_id;
pub(crate) mod hold;
pub(crate) mod journal;
pub(crate) mod sealed;
pub(crate) mod tensor_names;
pub(crate) mod whole_file;
