//! Identity of this machine.

use std::path::Path;

use crate::id::{Hasher, InstanceId};

/// A hash of `/etc/machine-id` and, where it can be read, the hardware's UUID. A clone that keeps both can't be told from
/// its original.
pub fn instance() -> InstanceId {
    from_files(Path::new("/etc/machine-id"), Path::new("/sys/class/dmi/id/product_uuid"))
}

fn from_files(machine_id: &Path, product_uuid: &Path) -> InstanceId {
    let mut hasher = Hasher::new();
    hasher.update(b"varu instance");
    for path in [machine_id, product_uuid] {
        let text = std::fs::read(path).unwrap_or_default();
        hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
    }
    InstanceId::from_bytes(hasher.finish_short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_id_is_another_instance() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let (a, b, none) = (file("a", "1\n"), file("b", "2\n"), folder.path().join("none"));
        assert_eq!(from_files(&a, &none), from_files(&a, &none));
        assert_ne!(from_files(&a, &none), from_files(&b, &none));
        assert_ne!(from_files(&a, &none), from_files(&none, &a));
    }
}
