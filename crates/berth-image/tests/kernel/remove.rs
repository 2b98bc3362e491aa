//! Names, lists and removal with the rules that users know.

use berth_image::{ImageError, ImageFilters, ImageUse, ListRequest, Removal, RemoveRequest};

use crate::support::{Home, Layer, Made, Tar};

fn image(content: &str) -> Made {
    let mut base = Tar::default();
    base.file("base", b"base");
    let mut top = Tar::default();
    top.file("top", content.as_bytes());
    Made::new(&[Layer::plain(base.end()), Layer::gzip(top.end())])
}

fn lines(removed: &[Removal]) -> Vec<String> {
    removed
        .iter()
        .map(|removal| match removal {
            Removal::Untagged { name, .. } => format!("Untagged: {name}"),
            Removal::Manifest { digest, .. } => format!("Deleted: manifest {}", digest.short()),
            Removal::Image(id) => format!("Deleted: image {}", id.short()),
            Removal::Layer { .. } => "Deleted: layer".to_owned(),
        })
        .collect()
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let (a, b) = (image("a"), image("b"));
    let home = Home::new();
    home.load(&a.layout("docker.io/test/a:1")).unwrap();
    home.load(&b.layout("docker.io/test/b:1")).unwrap();
    home.store.tag("test/a:1", "test/other:2").unwrap();
    let remove = |name: &str| home.store.remove(name, RemoveRequest::default(), &[]);
    assert_eq!(lines(&remove("test/a:1").unwrap()), ["Untagged: test/a:1"]);
    assert!(matches!(
        remove("test/a:1"),
        Err(ImageError::NoSuchImage { reference }) if reference == "test/a:1"
    ));
    // The lower layer belongs to the other image too.
    assert_eq!(
        lines(&remove("test/other:2").unwrap()),
        [
            "Untagged: test/other:2".to_owned(),
            format!("Deleted: image {}", a.id().short()),
            "Deleted: layer".to_owned()
        ]
    );
    assert!(home.tree(&b.id()).contains_key("/base"));
    assert_eq!(lines(&remove(&b.id().hex()).unwrap()).len(), 4);
    assert_eq!(home.leftovers(), Vec::<String>::new());
    let home = home.reopen();
    assert!(home.store.list(&ListRequest::default()).unwrap().is_empty());
}

#[test]
fn several_names_and_containers_stand_in_the_way() {
    let a = image("a");
    let home = Home::new();
    home.load(&a.layout("docker.io/test/a:1")).unwrap();
    home.store
        .tag(&a.id().to_string(), "elsewhere/a:1")
        .unwrap();
    let remove = |name: &str, force: bool, uses: &[ImageUse]| {
        home.store.remove(
            name,
            RemoveRequest {
                force,
                no_prune: false,
            },
            uses,
        )
    };
    let short = a.id().short();
    let text = |outcome: berth_image::Result<Vec<Removal>>| outcome.unwrap_err().to_string();
    assert_eq!(
        text(remove(&short, false, &[])),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    let mut held = ImageUse {
        container: "c".repeat(64),
        image: a.id(),
        running: true,
    };
    assert_eq!(
        text(remove(&short, true, std::slice::from_ref(&held))),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container cccccccccccc"
        )
    );
    assert_eq!(
        remove("elsewhere/a:1", false, std::slice::from_ref(&held))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        text(remove("test/a:1", false, std::slice::from_ref(&held))),
        format!(
            "conflict: unable to remove repository reference \"test/a:1\" (must force) - container cccccccccccc is using its referenced image {short}"
        )
    );
    // By force the name goes, and the image stays for its container.
    assert_eq!(
        lines(&remove("test/a:1", true, std::slice::from_ref(&held)).unwrap()),
        ["Untagged: test/a:1"]
    );
    held.running = false;
    assert_eq!(
        text(remove(&short, false, std::slice::from_ref(&held))),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container cccccccccccc"
        )
    );
    assert_eq!(
        lines(&remove(&short, true, std::slice::from_ref(&held)).unwrap()),
        [format!("Deleted: image {short}")]
    );
    // The layers stay for the container, and go with it.
    assert_eq!(home.leftovers().len(), 2 + 2 + 2);
    home.store.let_go(|_| false).unwrap();
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[test]
fn images_are_found_by_name_and_by_id() {
    let a = image("a");
    let home = Home::new();
    home.load(&a.layout("docker.io/library/a:latest")).unwrap();
    let id = a.id();
    let prefixed = format!("sha256:{}", &id.hex()[..8]);
    for text in [
        "a",
        "a:latest",
        "docker.io/a",
        "index.docker.io/library/a:latest",
        &id.to_string(),
        &id.hex(),
        &id.short(),
        &prefixed,
    ] {
        assert_eq!(home.store.resolve(text).unwrap().id, id, "{text}");
    }
    for (text, said) in [
        ("b", "No such image: b:latest"),
        ("x/y:1", "No such image: x/y:1"),
        (
            "a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "No such image: a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ),
    ] {
        assert_eq!(home.store.resolve(text).unwrap_err().to_string(), said);
    }
    assert!(matches!(
        home.store.resolve("A b"),
        Err(ImageError::Reference { .. })
    ));
    assert!(matches!(
        home.store.resolve(""),
        Err(ImageError::Reference { .. })
    ));
    let digest = format!("x@{id}");
    assert!(matches!(
        home.store.tag("a", &digest),
        Err(ImageError::TagWithDigest)
    ));
}

#[test]
fn lists_are_filtered() {
    let home = Home::new();
    let labelled = Made::for_platform(
        &[],
        "amd64",
        serde_json::json!({"Labels": {"tier": "web", "x": ""}}),
    );
    home.load(&labelled.layout("docker.io/test/web:1")).unwrap();
    home.load(&image("a").layout("docker.io/test/a:1")).unwrap();
    home.load(&image("a").layout("registry.example/deep/a:2"))
        .unwrap();
    let list = |filters: &[(&str, &str)]| -> Vec<String> {
        let filters = ImageFilters::parse(
            filters
                .iter()
                .map(|(name, value)| (*name, vec![(*value).to_owned()])),
        )
        .unwrap();
        let request = ListRequest {
            filters,
            shared_size: true,
            ..ListRequest::default()
        };
        let mut names: Vec<String> = home
            .store
            .list(&request)
            .unwrap()
            .into_iter()
            .flat_map(|image| image.repo_tags)
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        list(&[]),
        ["registry.example/deep/a:2", "test/a:1", "test/web:1"]
    );
    assert_eq!(list(&[("label", "tier=web")]), ["test/web:1"]);
    assert_eq!(list(&[("label", "x"), ("label", "tier")]), ["test/web:1"]);
    assert!(list(&[("label", "tier=db")]).is_empty());
    assert_eq!(list(&[("reference", "test/*")]), ["test/a:1", "test/web:1"]);
    assert_eq!(
        list(&[("reference", "registry.*/*/a")]),
        ["registry.example/deep/a:2"]
    );
    assert!(list(&[("dangling", "true")]).is_empty());
    assert!(list(&[("before", "test/a:1")]).is_empty());
    assert_eq!(list(&[("until", "2025-01-01")]).len(), 3);
    assert!(list(&[("until", "2020-01-01")]).is_empty());
    assert!(ImageFilters::parse([("nonsense", vec![])]).is_err());
    assert!(ImageFilters::parse([("dangling", vec!["maybe".to_owned()])]).is_err());
}

#[test]
fn a_hold_keeps_what_is_being_fetched() {
    let a = image("a");
    let home = Home::new();
    home.load(&a.layout("docker.io/test/a:1")).unwrap();
    let chain = berth_image::documents::chain_ids(
        &a.layers
            .iter()
            .map(|layer| layer.diff_id)
            .collect::<Vec<_>>(),
    );
    let lease = home.store.layers().lease(chain[1]);
    home.store
        .remove("test/a:1", RemoveRequest::default(), &[])
        .unwrap();
    assert!(home.store.layers().get(&chain[1]).is_some());
    assert!(home.store.layers().get(&chain[0]).is_none());
    drop(lease);
    let home = home.reopen();
    assert_eq!(home.leftovers(), Vec::<String>::new());
}
