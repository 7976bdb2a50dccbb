//! Finding and decoding image files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::fs;
use std::path::Path;

use arras_vit::{Architecture, Device, Error, Vit, decode, images_in};
use support::fixtures;

fn refused(dir: &Path, name: &str, bytes: &[u8], part: &str) {
    let file = dir.join(name);
    fs::write(&file, bytes).unwrap();
    let error =
        decode(&file).err().unwrap_or_else(|| panic!("{name}: decoded {} bytes", bytes.len())).to_string();
    assert!(error.contains(name) && error.contains(part) && !error.contains('\n'), "{error}");
}

#[test]
fn damaged_images_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), "empty.png", b"", "");
    refused(dir.path(), "text.png", b"not an image at all", "");
    for name in ["rgb.png", "444.jpg", "420.jpg", "progressive.jpg", "rgb.tif"] {
        let whole = fs::read(fixtures().join("images").join(name)).unwrap();
        for length in [3, 20, whole.len() / 2, whole.len() * 9 / 10] {
            refused(dir.path(), name, &whole[..length], "");
        }
    }
    assert!(decode(Path::new("/no/such/file.png")).unwrap_err().to_string().contains("/no/such/file.png"));
}

/// A PNG of 2^31 - 1 pixels a side in 57 bytes, and a JPEG of 65,535.
#[test]
fn absurd_dimensions_are_refused_before_allocation() {
    let dir = tempfile::tempdir().unwrap();
    let mut png = fs::read(fixtures().join("images/rgb.png")).unwrap();
    for (width, height) in [(0x7fff_ffff_u32, 0x7fff_ffff_u32), (30_000, 30_000), (40_000, 1)] {
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        refused(dir.path(), "huge.png", &png, "");
    }
    let mut jpeg = fs::read(fixtures().join("images/444.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    refused(dir.path(), "huge.jpg", &jpeg, "");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8)
            .fold(crc ^ u32::from(*byte), |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn an_exif_orientation_is_not_applied() {
    let image = decode(&fixtures().join("images/rotated.jpg")).unwrap();
    assert_eq!((image.width(), image.height()), (53, 37));
}

#[test]
fn floating_point_pixels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("float.tif");
    image::DynamicImage::new_rgb32f(8, 8).save(&file).unwrap();
    let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cpu).unwrap();
    let error = vit.preprocessor().load(&file).unwrap_err().to_string();
    assert!(error.contains("float.tif: Rgb32F pixels are not supported"), "{error}");
}

#[test]
fn one_bad_file_among_many_is_reported_and_the_rest_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let good = fixtures().join("images/rgb.png");
    for index in 0..40 {
        fs::copy(&good, dir.path().join(format!("{index:02}.png"))).unwrap();
    }
    fs::write(dir.path().join("17.png"), b"broken").unwrap();
    let files = images_in(dir.path()).unwrap();
    let paths: Vec<_> = files.iter().map(|file| &file.path).collect();
    let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cpu).unwrap();
    let loaded = vit.preprocessor().load_all(&paths);
    for (index, result) in loaded.iter().enumerate() {
        match result {
            Ok(pixels) => assert!(index != 17 && pixels.len() == vit.preprocessor().len()),
            Err(Error::Image { file, .. }) => assert!(index == 17 && file.ends_with("17.png")),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn files_are_found_in_order_with_their_class() {
    let dir = tempfile::tempdir().unwrap();
    for name in
        ["b/2.PNG", "b/deep/1.jpeg", "a/x.Tiff", "a/notes.txt", "top.jpg", ".hidden/y.png", "a/._x.tiff"]
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    let found: Vec<_> = images_in(dir.path())
        .unwrap()
        .into_iter()
        .map(|file| {
            assert_eq!(file.path, dir.path().join(&file.relative_name));
            (file.relative_name, file.label)
        })
        .collect();
    let expected =
        [("a/x.Tiff", Some("a")), ("b/2.PNG", Some("b")), ("b/deep/1.jpeg", Some("b")), ("top.jpg", None)];
    assert_eq!(found, expected.map(|(name, label)| (name.to_owned(), label.map(str::to_owned))));
    let error = images_in(&dir.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none: "), "{error}");
}

#[cfg(unix)]
#[test]
fn loops_of_symbolic_links_end() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/1.png"), b"").unwrap();
    symlink(dir.path(), dir.path().join("a/up")).unwrap();
    symlink(dir.path().join("a"), dir.path().join("b")).unwrap();
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
    symlink(dir.path().join("a/1.png"), dir.path().join("linked.png")).unwrap();
    let names: Vec<_> = images_in(dir.path()).unwrap().into_iter().map(|file| file.relative_name).collect();
    assert_eq!(names, ["a/1.png", "linked.png"]);
}
