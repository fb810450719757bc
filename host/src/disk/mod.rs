//! Files that are safe against other processes, crashes and damaged disks: atomic writes, locks and checksums.

pub(crate) mod checksum;
pub(crate) mod digest;
pub(crate) mod file_id;
pub(crate) mod journal;
pub(crate) mod tensor_names;
pub(crate) mod whole_file;
pub(crate) mod write_lock;
