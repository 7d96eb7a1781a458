//! What is to be done where a disk of this machine takes nothing.

use std::io;

/// What to do about an error of a local file: a clause that goes behind it. Empty where nothing is known.
pub fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk, and run it again",
        io::ErrorKind::ReadOnlyFilesystem => "; mount that disk for writing, and run it again",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_has_a_way_out() {
        assert!(way_out(&io::ErrorKind::QuotaExceeded.into()).contains("make room"));
        assert!(way_out(&io::ErrorKind::ReadOnlyFilesystem.into()).contains("for writing"));
        assert_eq!(way_out(&io::ErrorKind::NotFound.into()), "");
    }
}
