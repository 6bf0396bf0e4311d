//! Files of the cache of compiled code, and links of the digest index.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder},
    io::{Read, Seek},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::LazyLock,
};

use runwasi_core::{
    artifact::FileIdentity,
    code_cache::{digests::DigestIndex, store::CodeCache},
    digest::Digest,
    fuzzing,
};

const ENGINE: &str = "e";
const TRAILER: usize = 16;

struct Caches {
    directory: PathBuf,
    code: CodeCache,
    digests: DigestIndex,
}

static CACHES: LazyLock<Caches> = LazyLock::new(|| {
    let directory = crate::directory().join("code");
    DirBuilder::new().mode(0o700).create(&directory).expect("a new directory");
    Caches {
        code: CodeCache::open(&directory, 64 << 20).expect("the cache opens"),
        digests: DigestIndex::open(&directory).expect("the index opens"),
        directory,
    }
});

/// The first byte selects: content of a file of compiled code, code that gets a right trailer
/// first, or target of a link.
pub fn check(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 3 {
        0 => check_code(bytes),
        1 => check_changed(bytes),
        _ => check_link(bytes),
    }
}

/// A file is found if its trailer is right, and then with exactly these bytes. Any other file can be
/// replaced.
fn check_code(file: &[u8]) {
    let caches = &*CACHES;
    let digest = Digest::of(b"wasm");
    let path = caches.directory.join(format!("{ENGINE}-{}.cwasm", digest.hex()));
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    std::io::Write::write_all(&mut opened.expect("the file opens"), file).expect("it is written");
    match caches.code.get(ENGINE, &digest) {
        Some(found) => {
            assert!(is_right(file), "a damaged file is found");
            assert_eq!(content(found), file);
        }
        None => assert!(!is_right(file), "a right file is not found"),
    }
    let lock = caches.code.reserve(ENGINE, &digest).expect("no error").expect("it is free");
    lock.fill(file).expect("the code is stored");
    let stored = caches.code.get(ENGINE, &digest).expect("stored code is found");
    assert_eq!(content(stored)[..], [file, &trailer(file)].concat());
}

/// Code with its right trailer, and with one bit of both changed.
fn check_changed(bytes: &[u8]) {
    let Some((place, code)) = bytes.split_at_checked(2) else { return };
    let mut file = [code, &trailer(code)].concat();
    check_code(&file);
    let bit = usize::from(u16::from_le_bytes([place[0], place[1]])) % (file.len() * 8);
    file[bit / 8] ^= 1 << (bit % 8);
    check_code(&file);
}

/// A link is a digest if it has exactly a digest's text. Any other is replaced.
fn check_link(target: &[u8]) {
    // The system has no other targets.
    if target.is_empty() || target.contains(&0) || target.len() > 4000 {
        return;
    }
    let identity = fuzzing::file_identity(Digest::of(b"layers"), 7, (1, 2));
    let digest = Digest::of(b"wasm");
    let caches = &*CACHES;
    caches.digests.put(&identity, &digest).expect("the digest is stored");
    let link = only_file(&caches.directory.join("seen"));
    fs::remove_file(&link).expect("the link is removed");
    symlink(OsStr::from_bytes(target), &link).expect("a link");
    let found = caches.digests.get(&identity).map(|digest| digest.to_string().into_bytes());
    assert_eq!(found.as_deref(), is_digest(target).then_some(target));
    caches.digests.put(&identity, &digest).expect("the link is replaced");
    assert_eq!(get(&caches.digests, &identity), digest);
}

fn get(digests: &DigestIndex, identity: &FileIdentity) -> Digest {
    digests.get(identity).expect("a stored digest")
}

fn is_digest(text: &[u8]) -> bool {
    let hex = text.strip_prefix(b"sha256:").unwrap_or_default();
    hex.len() == 64 && hex.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_right(file: &[u8]) -> bool {
    let code = file.len().checked_sub(TRAILER).map(|length| file.split_at(length));
    code.is_some_and(|(code, found)| found == trailer(code))
}

fn trailer(code: &[u8]) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..8].copy_from_slice(b"runwasi1");
    trailer[8..12].copy_from_slice(&crc32fast::hash(code).to_le_bytes());
    trailer
}

fn content(mut file: fs::File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("the file is rewound");
    file.read_to_end(&mut bytes).expect("it is read");
    bytes
}

fn only_file(directory: &Path) -> PathBuf {
    let mut files =
        fs::read_dir(directory).expect("the directory").map(|file| file.expect("a file").path());
    let only = files.next().expect("a file");
    assert!(files.next().is_none(), "more than one file");
    only
}
