//! Compiles `program/main.rs` and puts an OCI image layout around it (OCI image specification, image-layout.md).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

const NAME: &str = "docker.io/berth/hello:latest";
/// Part of the image's identity, so it must not change from build to build.
const CREATED: &str = "2026-01-01T00:00:00Z";
const CREATED_SECONDS: u64 = 1_767_225_600;

fn main() {
    println!("cargo::rerun-if-changed=program/main.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(variable("OUT_DIR"));
    let program = compile(&out);
    let layer = layer(&program);
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &layer).expect("memory takes the layer");
    let compressed = encoder.finish().expect("memory takes the layer");

    let (architecture, variant) = match variable("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => ("amd64", ""),
        "x86" => ("386", ""),
        "aarch64" => ("arm64", "v8"),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        other => panic!("no image architecture is known for target architecture {other}"),
    };
    let mut config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/hello"],
            "Labels": {
                "org.opencontainers.image.title": "hello",
                "org.opencontainers.image.description": "Prints what a container sees",
                "org.opencontainers.image.licenses": "Apache-2.0"
            }
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [
            { "created": CREATED, "created_by": "COPY hello /", "comment": "built into Berth" },
            { "created": CREATED, "created_by": "CMD [\"/hello\"]", "empty_layer": true }
        ]
    });
    if !variant.is_empty() {
        config["variant"] = json!(variant);
    }
    let config = bytes(&config);
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &compressed)],
    }));
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": NAME,
        "org.opencontainers.image.ref.name": "latest",
    });
    entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
    if !variant.is_empty() {
        entry["platform"]["variant"] = json!(variant);
    }
    let index = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }));

    let mut layout = tar::Builder::new(Vec::new());
    append(
        &mut layout,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    append(&mut layout, "index.json", 0o644, &index);
    for blob in [&manifest, &config, &compressed] {
        let hex = digest(blob).replace("sha256:", "");
        append(&mut layout, &format!("blobs/sha256/{hex}"), 0o644, blob);
    }
    let layout = layout.into_inner().expect("memory takes the layout");
    std::fs::write(out.join("layout.tar"), layout).expect("OUT_DIR takes the layout");
    println!("cargo::rustc-env=BERTH_HELLO_IMAGE_ID={}", digest(&config));
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

/// A static program for the target of the crate, small rather than fast.
fn compile(out: &Path) -> Vec<u8> {
    let program = out.join("hello");
    let mut command = Command::new(variable("RUSTC"));
    command
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "hello",
            "--crate-type",
            "bin",
        ])
        .args(["--target", &variable("TARGET")])
        .args(["-C", "opt-level=s", "-C", "panic=abort", "-C", "lto=fat"])
        .args([
            "-C",
            "codegen-units=1",
            "-C",
            "strip=symbols",
            "-C",
            "debuginfo=0",
        ])
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "relocation-model=static",
        ])
        // Paths of the building machine have no place in an image, nor in its digest.
        .arg(format!(
            "--remap-path-prefix={}=/",
            variable("CARGO_MANIFEST_DIR")
        ))
        .arg("-o")
        .arg(&program)
        .arg("program/main.rs");
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={linker}"));
    }
    let status = command.status().expect("the compiler can be started");
    assert!(status.success(), "compiling program/main.rs: {status}");
    std::fs::read(&program).expect("the compiler wrote the program")
}

fn layer(program: &[u8]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "hello", 0o755, program);
    layer.into_inner().expect("memory takes the layer")
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(CREATED_SECONDS);
    header.set_entry_type(tar::EntryType::Regular);
    archive
        .append_data(&mut header, path, content)
        .expect("memory takes the entry");
}

fn bytes(document: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("a JSON value is JSON")
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}
