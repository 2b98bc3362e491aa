//! Databases made by hand that lie; those that rpm makes are read in the tests on the real kernel.

use std::io::Write;

use super::*;

const BEYOND: &str = "it refers to what is beyond its end";
const SHARED: &str = "it uses the same place twice";

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The packages of a database, or why it is refused.
fn read(form: Form, bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
    let listed = list(form, &file(bytes), None).map_err(|damage| damage.to_string())?;
    if let Some((count, damage)) = listed.strange {
        return Err(format!("{count}: {damage}"));
    }
    Ok(listed.packages.iter().map(shown).collect())
}

fn shown(package: &Package) -> String {
    let Package {
        name,
        version,
        architecture,
        size,
        ..
    } = package;
    format!("{name} {version} {architecture} {size}")
}

fn refused(form: Form, bytes: &[u8], reason: &str) {
    assert_eq!(read(form, bytes), Err(reason.to_owned()));
}

/// Writes over bytes at a place.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Tag, type and content.
type Entry<'a> = (u32, u32, &'a [u8]);

/// A header of entries.
fn header(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut index = Vec::new();
    let mut data: Vec<u8> = Vec::new();
    for (tag, kind, content) in entries {
        for number in [*tag, *kind, data.len() as u32, 1] {
            index.extend(number.to_be_bytes());
        }
        data.extend_from_slice(content);
    }
    let mut bytes = (entries.len() as u32).to_be_bytes().to_vec();
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(index);
    bytes.extend(data);
    bytes
}

fn little(name: &str) -> Vec<u8> {
    let name = [name.as_bytes(), b"\0"].concat();
    header(&[(1000, 6, &name), (1001, 6, b"1\0"), (1002, 6, b"2\0")])
}

#[test]
fn headers_are_read_as_rpm_reads_them() {
    let read =
        |entries: &[Entry<'_>]| header::package(&header(entries)).map(|package| shown(&package));
    let name: Entry<'_> = (1000, 6, b"a\0");
    let version: Entry<'_> = (1001, 6, b"1~rc\0");
    let release: Entry<'_> = (1002, 6, b"2.fc\0");
    let size: Entry<'_> = (1009, 4, &[0xff, 0, 0, 1]);
    let arch: Entry<'_> = (1022, 6, b"x86_64\0");
    let of = |entries: &[Entry<'_>]| read(entries).unwrap();
    // Keys are listed like packages, and are built for nothing.
    assert_eq!(of(&[name, version, release]), "a 1~rc-2.fc  0");
    assert_eq!(
        of(&[name, version, release, (1003, 4, &[0; 4]), size, arch]),
        "a 0:1~rc-2.fc x86_64 4278190081"
    );
    let long: Entry<'_> = (5009, 5, &[0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(
        of(&[long, name, version, release]),
        "a 1~rc-2.fc  1099511627776"
    );
    assert_eq!(
        of(&[(1000, 6, b"\x1b[1m\xff\0"), version]),
        "[1m\u{fffd} 1~rc-  0"
    );
    let fails = |entries: &[Entry<'_>]| read(entries).unwrap_err().to_string();
    assert_eq!(fails(&[version]), "a header has no name");
    assert_eq!(fails(&[(1000, 6, b"endless")]), BEYOND);
    assert_eq!(
        fails(&[(1000, 9, b"a\0")]),
        "an entry of a header is no text"
    );
    assert_eq!(fails(&[name, (1009, 4, b"123")]), BEYOND);
    assert_eq!(
        fails(&[name, (1009, 7, b"1234")]),
        "an entry of a header is no number"
    );
}

#[test]
fn headers_that_lie_about_lengths_are_refused() {
    let good = little("a");
    assert!(header::package(&good).is_ok());
    for at in [0, 4, 16] {
        let mut bytes = good.clone();
        put(&mut bytes, at, &[0xff; 4]);
        assert!(header::package(&bytes).is_err(), "{at}");
    }
    for length in 0..good.len() {
        assert!(header::package(&good[..length]).is_err(), "{length}");
    }
    let longer = [good, vec![0]].concat();
    assert!(header::package(&longer).is_err());
}

/// A database of ndb with blobs at the blocks that are said.
fn ndb(blobs: &[(u32, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    put(&mut bytes, 0, b"RpmP");
    put(&mut bytes, 12, &1_u32.to_le_bytes());
    for slot in 2..256 {
        put(&mut bytes, slot * 16, b"Slot");
    }
    for (number, (block, content)) in blobs.iter().enumerate() {
        let package = (number as u32 + 1).to_le_bytes();
        let size = (28 + content.len()).next_multiple_of(16);
        let slot = 32 + number * 16;
        put(&mut bytes, slot + 4, &package);
        put(&mut bytes, slot + 8, &block.to_le_bytes());
        put(&mut bytes, slot + 12, &(size as u32 / 16).to_le_bytes());
        let at = *block as usize * 16;
        put(&mut bytes, at, b"BlbS");
        put(&mut bytes, at + 4, &package);
        put(&mut bytes, at + 12, &(content.len() as u32).to_le_bytes());
        put(&mut bytes, at + 16, content);
    }
    bytes
}

#[test]
fn ndb_databases_that_lie_are_refused() {
    let blob = little("a");
    let good = ndb(&[(256, &blob), (300, &little("b"))]);
    assert_eq!(read(Form::Ndb, &good).unwrap(), ["a 1-2  0", "b 1-2  0"]);
    let changed = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        put(&mut bytes, at, new);
        bytes
    };
    refused(Form::Ndb, &changed(12, &[0xff; 4]), BEYOND);
    refused(Form::Ndb, &changed(40, &[0xff; 4]), BEYOND);
    refused(Form::Ndb, &changed(44, &[0xff; 4]), BEYOND);
    refused(Form::Ndb, &changed(48, &[0]), "a slot is none");
    let elsewhere = "a slot does not lead to its blob";
    // The second slot leads to the first one's blob.
    refused(Form::Ndb, &changed(56, &256_u32.to_le_bytes()), elsewhere);
    refused(Form::Ndb, &changed(4096 + 12, &[0xff; 4]), elsewhere);
    refused(Form::Ndb, b"RpmP", BEYOND);
    refused(Form::Ndb, &[0; 4096], "it is no ndb database");
    // Every slot with the same blob: as much as the file is long is read, and no more.
    let mut same = ndb(&[(256, &blob)]);
    let slot: Vec<u8> = same[32..48].to_vec();
    for number in 2..256 {
        put(&mut same, number * 16, &slot);
    }
    refused(Form::Ndb, &same, SHARED);
}

/// Pages of Berkeley DB: the head, one hash page, and a chain of two.
fn berkeley(value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 512 * 4];
    put(&mut bytes, 12, &0x0006_1561_u32.to_le_bytes());
    put(&mut bytes, 16, &9_u32.to_le_bytes());
    put(&mut bytes, 20, &512_u32.to_le_bytes());
    bytes[25] = 8;
    let hash = 512;
    put(&mut bytes, hash + 20, &2_u16.to_le_bytes());
    bytes[hash + 25] = 13;
    put(&mut bytes, hash + 26, &507_u16.to_le_bytes());
    put(&mut bytes, hash + 28, &495_u16.to_le_bytes());
    put(&mut bytes, hash + 507, &[1, 1, 0, 0, 0]);
    bytes[hash + 495] = 3;
    put(&mut bytes, hash + 499, &2_u32.to_le_bytes());
    put(&mut bytes, hash + 503, &(value.len() as u32).to_le_bytes());
    let (first, second) = value.split_at(value.len() / 2);
    for (page, next, part) in [(1024, 3_u32, first), (1536, 0, second)] {
        put(&mut bytes, page + 16, &next.to_le_bytes());
        put(&mut bytes, page + 22, &(part.len() as u16).to_le_bytes());
        bytes[page + 25] = 7;
        put(&mut bytes, page + 26, part);
    }
    bytes
}

#[test]
fn hashes_that_lie_are_refused() {
    let good = berkeley(&little("a"));
    assert_eq!(read(Form::Berkeley, &good).unwrap(), ["a 1-2  0"]);
    let changed = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        put(&mut bytes, at, new);
        bytes
    };
    let of = |at, new: &[u8], reason| refused(Form::Berkeley, &changed(at, new), reason);
    // A chain that leads to its own beginning, to no page, to the head, and one that never gives a byte.
    of(1024 + 16, &2_u32.to_le_bytes(), SHARED);
    of(1024 + 16, &4_u32.to_le_bytes(), BEYOND);
    of(
        1024 + 16,
        &[0; 4],
        "a chain leads to a page of another kind",
    );
    let mut empty = changed(1536 + 22, &[0; 2]);
    put(&mut empty, 1536 + 16, &3_u32.to_le_bytes());
    refused(Form::Berkeley, &empty, SHARED);
    of(1024 + 22, &[0xff; 2], BEYOND);
    of(
        512 + 503,
        &1_u32.to_le_bytes(),
        "a value has another length than it says",
    );
    of(512 + 503, &[0xff; 4], "a value is larger than any header");
    of(512 + 20, &[0xff; 2], SHARED);
    of(512 + 28, &510_u16.to_le_bytes(), SHARED);
    of(512 + 495, &[4], "an item is of no kind that rpm uses");
    of(16, &[7], "it is of a version that is not known");
    of(20, &[0; 4], "its page size is none");
    of(24, &[1], "its pages are encrypted or have sums");
    of(12, &[0; 4], "it is no hash of Berkeley DB");
}

/// A number as SQLite writes it, of at most two bytes.
fn varint(number: usize) -> Vec<u8> {
    match number {
        0..128 => vec![number as u8],
        _ => vec![(number >> 7) as u8 | 0x80, number as u8 & 0x7f],
    }
}

/// A record of a text or blob in each column.
fn record(columns: &[(usize, &[u8])]) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut values = Vec::new();
    for (base, value) in columns {
        kinds.extend(match base {
            0 => varint(0),
            1 => varint(1),
            base => varint(base + 2 * value.len()),
        });
        values.extend_from_slice(value);
    }
    [varint(kinds.len() + 1), kinds, values].concat()
}

/// Pages of 512 bytes: the schema, a root with two children, these, and a chain of the second one's row.
fn database() -> Vec<u8> {
    let mut bytes = vec![0; 512 * 5];
    put(&mut bytes, 0, b"SQLite format 3\0");
    put(&mut bytes, 16, &512_u16.to_be_bytes());
    put(&mut bytes, 56, &1_u32.to_be_bytes());
    let schema = record(&[
        (13, b"table"),
        (13, b"Packages"),
        (13, b"Packages"),
        (1, &[2]),
        (13, b"CREATE TABLE"),
    ]);
    let cell = [varint(schema.len()), varint(1), schema].concat();
    bytes[100] = 13;
    put(&mut bytes, 103, &1_u16.to_be_bytes());
    put(&mut bytes, 108, &400_u16.to_be_bytes());
    put(&mut bytes, 400, &cell);
    let root = 512;
    bytes[root] = 5;
    put(&mut bytes, root + 3, &1_u16.to_be_bytes());
    put(&mut bytes, root + 8, &4_u32.to_be_bytes());
    put(&mut bytes, root + 12, &500_u16.to_be_bytes());
    put(&mut bytes, root + 500, &[0, 0, 0, 3, 1]);
    let long = "b".repeat(600);
    for (page, name) in [(1024, "a"), (1536, long.as_str())] {
        let row = record(&[(0, b""), (12, &little(name))]);
        bytes[page] = 13;
        put(&mut bytes, page + 3, &1_u16.to_be_bytes());
        put(&mut bytes, page + 8, &100_u16.to_be_bytes());
        let start = [varint(row.len()), varint(1)].concat();
        put(&mut bytes, page + 100, &start);
        // Section 1.6 of the format: how much of a long row stays.
        let local = match row.len() {
            0..=477 => row.len(),
            length => 39 + (length - 39) % 508,
        };
        let at = page + 100 + start.len();
        put(&mut bytes, at, &row[..local]);
        if local < row.len() {
            put(&mut bytes, at + local, &5_u32.to_be_bytes());
            put(&mut bytes, 2048 + 4, &row[local..]);
        }
    }
    bytes
}

#[test]
fn sqlite_databases_that_lie_are_refused() {
    let good = database();
    let names = read(Form::Sqlite, &good).unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"a 1-2  0".to_owned()), "{names:?}");
    let of = |at, new: &[u8], reason| {
        let mut bytes = good.clone();
        put(&mut bytes, at, new);
        refused(Form::Sqlite, &bytes, reason);
    };
    let (root, leaf, chain) = (512, 1024, 2048);
    // Children that are their parent, their sibling, the schema, and none.
    for (child, reason) in [
        (2_u32, SHARED),
        (3, SHARED),
        (1, SHARED),
        (0, BEYOND),
        (6, BEYOND),
    ] {
        of(root + 8, &child.to_be_bytes(), reason);
    }
    of(root, &[2], "a page is none of a table");
    of(leaf, &[10], "a page is none of a table");
    // More cells than there is room for, and the same one again and again.
    of(leaf + 3, &[0xff; 2], SHARED);
    let mut same = good.clone();
    put(&mut same, leaf + 3, &40_u16.to_be_bytes());
    for cell in 0..40 {
        put(&mut same, leaf + 8 + 2 * cell, &100_u16.to_be_bytes());
    }
    refused(Form::Sqlite, &same, SHARED);
    of(leaf + 8, &600_u16.to_be_bytes(), BEYOND);
    // A row of 2^56 bytes, and one that says more than it has.
    of(leaf + 100, &[0xff; 9], "a row is larger than any header");
    of(leaf + 100, &[0x85, 0], BEYOND);
    assert_eq!(good[1536 + 100..][..2], varint(665));
    // A page more than the chain has, whose end leads nowhere, and to itself.
    let more = |next: u32, reason| {
        let mut bytes = good.clone();
        put(&mut bytes, 1536 + 100, &varint(665 + 508));
        put(&mut bytes, chain, &next.to_be_bytes());
        let outcome = read(Form::Sqlite, &bytes);
        assert_eq!(outcome, Err(String::from(reason)));
    };
    more(0, BEYOND);
    more(5, SHARED);
    of(16, &[0, 3], "its page size is none");
    of(20, &[33], "its pages leave no room");
    of(59, &[2], "its text is not UTF-8");
    of(400 + 9, b"T", "it has no table of packages");
    of(0, b"x", "it is no SQLite database");
    for length in 0..good.len() {
        assert!(read(Form::Sqlite, &good[..length]).is_err(), "{length}");
    }
}

#[test]
fn no_byte_that_is_changed_does_more_than_change_the_answer() {
    let databases = [
        (Form::Sqlite, database()),
        (Form::Berkeley, berkeley(&little("a"))),
        (Form::Ndb, ndb(&[(256, &little("a"))])[..5120].to_vec()),
    ];
    for (form, good) in databases {
        for at in 0..good.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= mask;
                if let Ok(listed) = list(form, &file(&bytes), None) {
                    assert!(listed.packages.len() <= 2, "{form:?} {at}");
                }
            }
        }
    }
}
