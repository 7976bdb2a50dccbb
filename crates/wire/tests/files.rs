//! Files: whole or not at all, within limits, with errors that name them.

// A helper of a test may fail it as the test itself may.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use arras_wire::file::{Access, create_private_dir, read_bounded, write_atomically};
use arras_wire::{Error, InFile, Reader};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ct.arras");
    for content in [&b"first, longer"[..], b"second"] {
        write_atomically(&path, content, Access::Shared).unwrap();
        assert_eq!(read_bounded(&path, 13).unwrap(), content);
    }
    assert_eq!(names(folder.path()), ["ct.arras"]);
}

#[test]
fn a_name_without_a_folder_is_written_here() {
    let path = Path::new("arras-wire-bare-name.test");
    write_atomically(path, b"x", Access::Shared).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"x");
    fs::remove_file(path).unwrap();
}

#[test]
fn the_limit_holds_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.arras");
    fs::write(&path, [0; 100]).unwrap();
    assert_eq!(read_bounded(&path, 100).unwrap().len(), 100);
    let error = read_bounded(&path, 99).unwrap_err().to_string();
    assert_eq!(error, format!("{}: longer than the limit of 99 bytes", path.display()));
}

#[test]
fn errors_name_the_file_and_the_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such.arras");
    for error in [
        read_bounded(&missing, 9).unwrap_err(),
        write_atomically(&missing, b"x", Access::Shared).unwrap_err(),
        read_bounded(folder.path(), 9).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.starts_with(folder.path().to_str().unwrap()) && text.contains(": cannot "), "{text}");
    }
    let decoded = Reader::new(&[1]).u32("degree").in_file("ct.arras").unwrap_err().to_string();
    assert_eq!(decoded, "ct.arras: field 'degree': truncated: 4 bytes are needed, 1 remain");
}

#[test]
fn what_is_not_a_regular_file_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let found = write_atomically(&inner, b"x", Access::Shared).unwrap_err();
    assert!(matches!(found, Error::File { problem, .. } if matches!(*problem, Error::NotAFile)));
    assert_eq!(names(folder.path()), ["inner"]);
}

#[test]
fn writers_of_one_file_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.arras");
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..10 {
                    write_atomically(path, &[writer; 10_000], Access::Owner).unwrap();
                }
            });
        }
    });
    let content = fs::read(&path).unwrap();
    assert_eq!(content, vec![content[0]; 10_000]);
    assert_eq!(names(folder.path()), ["shared.arras"]);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_file_and_its_folder_are_their_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("a/keys");
        create_private_dir(&keys).unwrap();
        create_private_dir(&keys).unwrap();
        assert_eq!(mode(&keys), 0o700);

        let secret = keys.join("secret");
        fs::write(&secret, b"old").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        write_atomically(&secret, b"new", Access::Owner).unwrap();
        assert_eq!(mode(&secret), 0o600, "also where a readable file stood");

        let error = create_private_dir(&secret).unwrap_err().to_string();
        assert!(error.starts_with(secret.to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_failed_rename_removes_the_new_file() {
        // The temporary name is short, so creating succeeds; the final one no file system takes.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(300));
        assert!(write_atomically(&path, b"x", Access::Shared).is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn an_endless_file_is_read_to_the_limit_only() {
        assert!(read_bounded(Path::new("/dev/zero"), 1000).is_err());
        assert!(write_atomically(Path::new("/dev/null"), b"x", Access::Shared).is_err());
    }
}
