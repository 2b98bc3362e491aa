//! What a power cut may damage is forgotten, what it cannot stays.

use berth_types::ErrorKind;

use crate::support::{Home, Layer, Made, Tar};

const UNSETTLED: redb::TableDefinition<'_, &str, &str> =
    redb::TableDefinition::new("images_unsettled");

fn unsettled(home: &Home) -> Vec<(String, String)> {
    use redb::{ReadableDatabase, ReadableTable};
    let transaction = home.database.begin_read().unwrap();
    let table = transaction.open_table(UNSETTLED).unwrap();
    table
        .iter()
        .unwrap()
        .map(|row| row.unwrap())
        .map(|(id, boot)| (id.value().to_owned(), boot.value().to_owned()))
        .collect()
}

/// As if the machine had been started anew since.
fn another_boot(home: &Home) {
    let transaction = home.database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(UNSETTLED).unwrap();
        for (id, _) in unsettled(home) {
            table.insert(id.as_str(), "an earlier boot").unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn image(name: &str, bytes: usize) -> Made {
    let mut tar = Tar::default();
    tar.file(name, &vec![7; bytes]);
    Made::new(&[Layer::plain(tar.end())])
}

#[test]
fn large_images_are_on_disk_some_seconds_after_the_answer() {
    let home = Home::new();
    let (small, large) = (image("small", 1000), image("large", 65 << 20));
    home.load(&small.layout("docker.io/a/small:1")).unwrap();
    assert!(unsettled(&home).is_empty(), "on disk with the answer");
    home.load(&large.layout("docker.io/a/large:1")).unwrap();
    assert_eq!(unsettled(&home).len(), 1);
    // A process that is killed takes nothing with it.
    let home = home.reopen();
    assert_eq!(home.store.resolve("a/large:1").unwrap().id, large.id());
    // While one waits, a small one does not wait for it.
    let other = image("other", 1000);
    home.load(&other.layout("docker.io/a/other:1")).unwrap();
    assert_eq!(unsettled(&home).len(), 2);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !unsettled(&home).is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "it never came to disk"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let home = home.reopen();
    for name in ["a/small:1", "a/large:1", "a/other:1"] {
        home.store.resolve(name).unwrap();
    }
}

#[test]
fn what_was_not_on_disk_at_a_power_cut_is_forgotten_whole() {
    let home = Home::new();
    let (small, large) = (image("small", 1000), image("large", 65 << 20));
    home.load(&small.layout("docker.io/a/small:1")).unwrap();
    home.load(&large.layout("docker.io/a/large:1")).unwrap();
    another_boot(&home);
    let home = home.reopen();
    let gone = home.store.resolve("a/large:1").unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(home.store.resolve("a/small:1").unwrap().id, small.id());
    assert_eq!(
        home.store.blobs().list().unwrap().len(),
        3,
        "that of the other one"
    );
    assert!(unsettled(&home).is_empty());
    // It can come again.
    home.load(&large.layout("docker.io/a/large:1")).unwrap();
    assert_eq!(home.store.resolve("a/large:1").unwrap().id, large.id());
}
