//! Which packages an image has: the databases are made by the managers' own programs, and what they list is what we list.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_image::why::Why;

use crate::support::{Head, Home, Layer, Made, Tar};

/// The packages that are built for this.
const SPECIFICATION: &str = include_str!("databases/little.spec");

/// A database of rpm's own form, which Debian's rpm does not write. It was made by an rpm 4.18 that was configured with
/// `--enable-ndb`, of the packages of `little.spec`:
///
/// ```text
/// rpmbuild -bb --define "_topdir $PWD/top" --define "_buildhost localhost" little.spec
/// rpm --root $PWD/root --define "_db_backend ndb" --define "_dbpath /var/lib/rpm" -i --justdb --nodeps top/RPMS/*/*.rpm
/// rpm (the same) -e --justdb many-5
/// rpm (the same) -qa --qf '%{NAME} %{EVR} %{ARCH} %{LONGSIZE}\n' | sort > Packages.db.list
/// ```
const NDB: &[u8] = include_bytes!("databases/Packages.db");
const NDB_LIST: &str = include_str!("databases/Packages.db.list");

/// What rpm is asked for, and how [`listed`] writes it.
const FORMAT: &str = "%{NAME} %{EVR} %{ARCH} %{LONGSIZE}\\n";

/// Runs a program that must succeed; its standard output.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} is installed: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// The packages of one manager as rpm's [`FORMAT`] has them.
fn listed(why: &Why, manager: &str) -> BTreeSet<String> {
    let packages = why.packages.iter();
    packages
        .filter(|package| package.manager == manager)
        .map(|package| {
            format!(
                "{} {} {} {}",
                package.name, package.version, package.architecture, package.size
            )
        })
        .collect()
}

/// What is told of an image of these files.
fn why(files: &[(&str, &[u8])]) -> Why {
    let mut tar = Tar::default();
    for (path, content) in files {
        tar.file(path, content);
    }
    why_of(&mut tar)
}

fn why_of(tar: &mut Tar) -> Why {
    let home = Home::new();
    let made = Made::new(&[Layer::plain(tar.end())]);
    home.load(&made.layout("docker.io/test/packages:1"))
        .unwrap();
    home.store.why("test/packages:1").unwrap()
}

/// A root that rpm keeps a database in.
struct Rpm {
    work: tempfile::TempDir,
    backend: &'static str,
}

impl Rpm {
    fn new(backend: &'static str) -> Self {
        let work = tempfile::Builder::new()
            .prefix("bt-packages-")
            .tempdir()
            .unwrap();
        std::fs::create_dir_all(work.path().join("root/var/lib/rpm")).unwrap();
        Self { work, backend }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.work.path().join("root/var/lib/rpm").join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("rpm");
        command
            .arg("--root")
            .arg(self.work.path().join("root"))
            .args(["--define", &format!("_db_backend {}", self.backend)])
            .args(["--define", "_dbpath /var/lib/rpm"]);
        command
    }

    fn list(&self) -> BTreeSet<String> {
        lines(&run(self.command().args(["-qa", "--qf", FORMAT])))
    }

    /// Builds the packages; their files by the name of the package.
    fn build(&self) -> Vec<PathBuf> {
        let top = self.work.path().join("top");
        // The tests also run where their sources are not.
        let specification = self.work.path().join("little.spec");
        std::fs::write(&specification, SPECIFICATION).unwrap();
        run(Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--define"])
            .arg(format!("_topdir {}", top.display()))
            .args(["--define", "debug_package %{nil}"])
            .arg(&specification));
        let mut built = Vec::new();
        for directory in std::fs::read_dir(top.join("RPMS")).unwrap() {
            for file in std::fs::read_dir(directory.unwrap().path()).unwrap() {
                built.push(file.unwrap().path());
            }
        }
        built.sort();
        assert_eq!(built.len(), 15);
        built
    }

    fn installation(&self, packages: &[PathBuf]) -> Command {
        let mut command = self.command();
        command
            .args(["-i", "--justdb", "--nodeps", "--force-debian"])
            .args(packages);
        command
    }

    fn install(&self, packages: &[PathBuf]) {
        run(&mut self.installation(packages));
    }
}

/// Asks SQLite's own program; what it answers.
fn sqlite(database: &Path, question: &str) -> String {
    run(Command::new("sqlite3").arg(database).arg(question))
}

#[test]
fn sqlite_databases_list_what_rpm_lists() {
    let rpm = Rpm::new("sqlite");
    rpm.install(&rpm.build());
    run(rpm.command().args(["-e", "--justdb", "many-5"]));
    let expected = rpm.list();
    assert_eq!(expected, lines(NDB_LIST));
    let database = rpm.read("rpmdb.sqlite");
    for place in ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"] {
        let told = why(&[(&format!("{place}/rpmdb.sqlite"), &database)]);
        assert_eq!(listed(&told, "rpm"), expected, "{place}");
        assert!(told.unread.is_empty(), "{:?}", told.unread);
    }
    // Pages of another size have other chains, and the smallest ones a deeper tree.
    for size in [512, 1024, 65_536] {
        let copy = rpm.work.path().join(format!("{size}.sqlite"));
        std::fs::write(&copy, &database).unwrap();
        let question = format!(
            "PRAGMA journal_mode=DELETE; PRAGMA page_size={size}; VACUUM; PRAGMA page_size"
        );
        let said = sqlite(&copy, &question);
        assert_eq!(said.lines().last(), Some(size.to_string().as_str()));
        let told = why(&[("var/lib/rpm/rpmdb.sqlite", &std::fs::read(&copy).unwrap())]);
        assert_eq!(listed(&told, "rpm"), expected, "{size}");
    }
}

#[test]
fn a_database_behind_a_link_is_read_once() {
    let mut tar = Tar::default();
    tar.file("usr/lib/sysimage/rpm/Packages.db", NDB)
        .file("usr/lib/sysimage/rpm/rpmdb.sqlite", b"nonsense")
        .symlink("var/lib/rpm", "../../usr/lib/sysimage/rpm")
        .symlink("usr/share/rpm", "/var/lib/rpm");
    let told = why_of(&mut tar);
    assert_eq!(listed(&told, "rpm"), lines(NDB_LIST));
    assert_eq!(told.packages.len(), lines(NDB_LIST).len());
    let unread =
        ["/usr/lib/sysimage/rpm/rpmdb.sqlite: it refers to what is beyond its end".to_owned()];
    assert_eq!(told.unread, unread);
}

/// A reader that keeps SQLite from writing the log back.
struct Reader {
    child: Child,
}

impl Reader {
    fn new(database: &Path) -> Self {
        let mut child = Command::new("sqlite3")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(b"BEGIN; SELECT count(*) FROM Packages;\n")
            .unwrap();
        let mut answer = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut answer)
            .unwrap();
        assert_eq!(answer.trim(), "1");
        child.stdin = Some(stdin);
        Self { child }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_only_in_the_log_counts() {
    let rpm = Rpm::new("sqlite");
    let built = rpm.build();
    let (first, rest) = built.split_at(1);
    rpm.install(first);
    let reader = Reader::new(&rpm.file("rpmdb.sqlite"));
    // rpm waits at its end to write the log back, which the reader does not allow.
    let mut installing = rpm.installation(rest).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let all = built.len().to_string();
    while sqlite(&rpm.file("rpmdb.sqlite"), "SELECT count(*) FROM Packages").trim() != all {
        assert!(Instant::now() < deadline, "rpm installs nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    let database = rpm.read("rpmdb.sqlite");
    let log = rpm.read("rpmdb.sqlite-wal");
    drop(reader);
    assert!(installing.wait().unwrap().success());
    assert!(log.len() > 100_000, "the log was written back");
    // What comes of a log that ends anywhere, and of one whose bytes are wrong somewhere, is SQLite's to say.
    let mut counts = BTreeSet::new();
    let mut wrong = log.clone();
    if let Some(byte) = wrong.get_mut(log.len() / 2) {
        *byte ^= 1;
    }
    let cut = |part: usize| log.get(..log.len() * part / 6).unwrap().to_vec();
    let logs = [wrong].into_iter().chain((0..=6).map(cut));
    for log in logs {
        let copy = Rpm::new("sqlite");
        std::fs::write(copy.file("rpmdb.sqlite"), &database).unwrap();
        std::fs::write(copy.file("rpmdb.sqlite-wal"), &log).unwrap();
        let told = why(&[
            ("var/lib/rpm/rpmdb.sqlite", &database),
            ("var/lib/rpm/rpmdb.sqlite-wal", &log),
        ]);
        let expected = copy.list();
        assert_eq!(listed(&told, "rpm"), expected, "{}", log.len());
        assert!(told.unread.is_empty(), "{:?}", told.unread);
        counts.insert(expected.len());
    }
    assert!(counts.len() > 3, "{counts:?}");
    assert_eq!(counts.last(), Some(&built.len()));
}

#[test]
fn a_change_that_was_not_finished_is_told() {
    let rpm = Rpm::new("sqlite");
    rpm.install(&rpm.build());
    let file = rpm.file("rpmdb.sqlite");
    sqlite(&file, "PRAGMA journal_mode=DELETE");
    let mut writer = Command::new("sqlite3")
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // So small a cache that the change is written, and its journal before it, while the transaction is open.
    let words = b"PRAGMA cache_size=1; BEGIN; DELETE FROM Packages; DELETE FROM Name; SELECT 1;\n";
    writer.stdin.as_mut().unwrap().write_all(words).unwrap();
    let mut answer = String::new();
    BufReader::new(writer.stdout.as_mut().unwrap())
        .read_line(&mut answer)
        .unwrap();
    let (database, journal) = (rpm.read("rpmdb.sqlite"), rpm.read("rpmdb.sqlite-journal"));
    writer.kill().unwrap();
    writer.wait().unwrap();
    let told = why(&[
        ("var/lib/rpm/rpmdb.sqlite", &database),
        ("var/lib/rpm/rpmdb.sqlite-journal", &journal),
    ]);
    let said = "/var/lib/rpm/rpmdb.sqlite-journal: a change that was not finished is not undone";
    assert!(
        told.unread.iter().any(|text| text == said),
        "{:?}",
        told.unread
    );
}

#[test]
fn hashes_of_berkeley_db_list_what_rpm_lists() {
    let source = Rpm::new("sqlite");
    source.install(&source.build());
    let rows = sqlite(
        &source.file("rpmdb.sqlite"),
        "SELECT hnum || ' ' || hex(blob) FROM Packages",
    );
    let old = Rpm::new("bdb_ro");
    // The byte orders of x86 and of s390x.
    for order in ["1234", "4321"] {
        for size in ["512", "4096", "65536"] {
            let key = |number: u32| match order {
                "1234" => number.to_le_bytes(),
                _ => number.to_be_bytes(),
            };
            let hex = |bytes: [u8; 4]| bytes.map(|byte| format!("{byte:02x}")).concat();
            let mut dump = format!(
                "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={size}\ndb_lorder={order}\nHEADER=END\n"
            );
            // As rpm does: under 0 the number that was given out last.
            dump.push_str(&format!(" {}\n {}\n", hex(key(0)), hex(key(15))));
            for row in rows.lines() {
                let (number, blob) = row.split_once(' ').unwrap();
                let key = hex(key(number.parse().unwrap()));
                dump.push_str(&format!(" {key}\n {}\n", blob.to_ascii_lowercase()));
            }
            dump.push_str("DATA=END\n");
            let text = old.work.path().join("dump");
            std::fs::write(&text, dump).unwrap();
            let _ = std::fs::remove_file(old.file("Packages"));
            run(Command::new("db_load")
                .arg("-f")
                .arg(&text)
                .arg(old.file("Packages")));
            let told = why(&[("var/lib/rpm/Packages", &old.read("Packages"))]);
            assert!(told.unread.is_empty(), "{:?}", told.unread);
            assert_eq!(listed(&told, "rpm"), old.list(), "{order} {size}");
            assert_eq!(listed(&told, "rpm"), source.list());
        }
    }
}

#[test]
fn ndb_databases_list_what_rpm_lists() {
    let told = why(&[("usr/lib/sysimage/rpm/Packages.db", NDB)]);
    assert_eq!(listed(&told, "rpm"), lines(NDB_LIST));
    assert!(told.unread.is_empty(), "{:?}", told.unread);
}

#[test]
fn pacman_lists_what_we_list() {
    let work = tempfile::Builder::new()
        .prefix("bt-packages-")
        .tempdir()
        .unwrap();
    let path = |name: &str| work.path().join(name);
    std::fs::create_dir_all(path("root/var/lib/pacman")).unwrap();
    std::fs::write(
        path("pacman.conf"),
        "[options]\nArchitecture = x86_64\nSigLevel = Never\nLocalFileSigLevel = Never\n",
    )
    .unwrap();
    let pacman = || {
        let mut command = Command::new("pacman");
        command
            .env("LC_ALL", "C")
            .arg("--config")
            .arg(path("pacman.conf"))
            .arg("--root")
            .arg(path("root"))
            .arg("--dbpath")
            .arg(path("root/var/lib/pacman"));
        command
    };
    for (name, version, architecture, size) in [
        ("thing", "1:2.0-3", "any", 3000),
        ("lib32-thing", "0.1.r5-1", "x86_64", 12_345_678),
    ] {
        let archive = path(&format!("{name}.pkg.tar"));
        let mut tar = Tar::default();
        let information = format!(
            "pkgname = {name}\npkgbase = {name}\npkgver = {version}\npkgdesc = A thing\n\
             url = none\nbuilddate = 1\npackager = none\nsize = {size}\narch = {architecture}\n"
        );
        tar.file(".PKGINFO", information.as_bytes())
            .file(&format!("opt/{name}"), b"content");
        std::fs::write(&archive, tar.end()).unwrap();
        run(pacman().args(["-U", "--noconfirm"]).arg(&archive));
    }
    let local = path("root/var/lib/pacman/local");
    let mut tar = Tar::default();
    for entry in std::fs::read_dir(&local).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let place = format!("var/lib/pacman/local/{name}");
        if !entry.file_type().unwrap().is_dir() {
            tar.file(&place, &std::fs::read(entry.path()).unwrap());
            continue;
        }
        for file in ["desc", "files"] {
            let content = std::fs::read(entry.path().join(file)).unwrap();
            tar.file(&format!("{place}/{file}"), &content);
        }
    }
    let told = why_of(&mut tar);
    let pairs: BTreeSet<String> = told
        .packages
        .iter()
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    assert_eq!(pairs, lines(&run(pacman().arg("-Q"))));
    let expected = "lib32-thing 0.1.r5-1 x86_64 12345678\nthing 1:2.0-3 any 3000".to_owned();
    assert_eq!(listed(&told, "pacman"), lines(&expected));
    assert!(told.unread.is_empty(), "{:?}", told.unread);
    // pacman rounds to KiB and MiB for people.
    let said = run(pacman().arg("-Qi"));
    assert!(
        said.contains("2.93 KiB") && said.contains("11.77 MiB"),
        "{said}"
    );
}

#[test]
fn hostile_databases_are_named_with_the_reason() {
    let rpm = Rpm::new("sqlite");
    rpm.install(&rpm.build());
    let file = rpm.file("rpmdb.sqlite");
    let question = "SELECT rootpage FROM sqlite_schema WHERE name = 'Packages'";
    let root: u64 = sqlite(&file, question).trim().parse().unwrap();
    sqlite(&file, "PRAGMA journal_mode=DELETE");
    let good = rpm.read("rpmdb.sqlite");
    let changed = |at: u64, bytes: &[u8]| {
        std::fs::write(&file, &good).unwrap();
        let open = std::fs::File::options().write(true).open(&file).unwrap();
        open.write_all_at(bytes, at).unwrap();
        std::fs::read(&file).unwrap()
    };
    let start = (root - 1) * 4096;
    let number = u32::try_from(root).unwrap();
    let beyond = "it refers to what is beyond its end";
    let shared = "it uses the same place twice";
    let cases: [(&str, Vec<u8>, &str); 8] = [
        // The last child of the root is the root.
        (
            "rpmdb.sqlite",
            changed(start + 8, &number.to_be_bytes()),
            shared,
        ),
        ("rpmdb.sqlite", changed(start + 8, &[0xff; 4]), beyond),
        (
            "rpmdb.sqlite",
            changed(start, &[2]),
            "a page is none of a table",
        ),
        ("rpmdb.sqlite", changed(start + 3, &[0xff; 2]), shared),
        ("rpmdb.sqlite", good.get(..8192).unwrap().to_vec(), beyond),
        ("rpmdb.sqlite", vec![0; 4096], "it is no SQLite database"),
        ("Packages.db", NDB.get(..4096).unwrap().to_vec(), beyond),
        ("Packages", NDB.to_vec(), "it is no hash of Berkeley DB"),
    ];
    for (name, database, reason) in cases {
        let status = b"Package: libc6\nVersion: 2.36\n";
        let told = why(&[
            (&format!("var/lib/rpm/{name}"), &database),
            ("var/lib/dpkg/status", status),
        ]);
        assert_eq!(told.unread, [format!("/var/lib/rpm/{name}: {reason}")]);
        // Nothing of it is listed, since a part would look like all; the others are.
        assert_eq!(listed(&told, "rpm").len(), 0);
        assert_eq!(told.packages.len(), 1);
    }
    // A header that lies is one package less.
    let mut lying = NDB.to_vec();
    let name = lying
        .windows(6)
        .position(|bytes| bytes == b"many-7")
        .unwrap();
    lying.get_mut(name..name + 6).unwrap().fill(0);
    let told = why(&[("var/lib/rpm/Packages.db", &lying)]);
    assert_eq!(listed(&told, "rpm").len(), lines(NDB_LIST).len() - 1);
    let reason = "/var/lib/rpm/Packages.db: 1 of its headers make no sense: a header has no name";
    assert_eq!(told.unread, [reason]);
    // What is no file is no database.
    let pipe = Head {
        flag: b'6',
        ..Head::default()
    };
    let mut tar = Tar::default();
    tar.raw(b"var/lib/rpm/rpmdb.sqlite", &pipe, b"")
        .symlink("var/lib/rpm/Packages", "../../../../../../etc/passwd")
        .dir("var/lib/rpm/Packages.db/", 0o755)
        .file("var/lib/dpkg/status.d/large", &vec![b'x'; 2 << 20]);
    let told = why_of(&mut tar);
    assert_eq!(
        told.unread,
        ["/var/lib/dpkg/status.d/large: it is larger than 1048576 bytes"]
    );
}
