"""Saved and loaded images, commits, imports, exports and copied files, by Docker's library for Python."""
import io
import tarfile

import docker

client = docker.from_env(timeout=60)
api = client.api


def packed(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o640
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def unpacked(chunks):
    archive = tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))
    return {m.name: archive.extractfile(m).read() for m in archive.getmembers() if m.isfile()}


box = client.containers.run("busybox", "sleep 1000", name="pybox", detach=True, network_mode="none")
assert box.put_archive("/tmp", packed({"one": b"1", "two/inner": b"22"}))
chunks, stat = box.get_archive("/tmp/two")
assert stat["name"] == "two" and stat["mode"] & (1 << 31), stat
assert unpacked(chunks) == {"two/inner": b"22"}
chunks, stat = box.get_archive("/tmp/one")
assert (stat["name"], stat["size"], stat["mode"], stat["linkTarget"]) == ("one", 1, 0o640, ""), stat
assert unpacked(chunks) == {"one": b"1"}
# The packaged reference has no status of its own for the second.
for path, statuses in [("/none", [404]), ("/tmp/one/", [400, 500])]:
    try:
        box.put_archive(path, packed({}))
        raise SystemExit(f"{path} was taken")
    except docker.errors.APIError as error:
        assert error.status_code in statuses, (path, error)

# An answer of its own, not the first line of a stream.
try:
    api.pull("127.0.0.1:1/none", tag="1")
    raise SystemExit("a registry without anybody there was pulled from")
except docker.errors.APIError as error:
    assert error.status_code == 500, error

changes = {(c["Path"], c["Kind"]) for c in box.diff()}
assert {("/tmp", 0), ("/tmp/one", 1), ("/tmp/two/inner", 1)} <= changes, changes

image = box.commit(
    repository="pyimage", tag="1", message="by python", author="py", changes=["ENV FROM=py", "CMD cat /tmp/one"]
)
assert image.tags == ["pyimage:1"], image.tags
assert image.attrs["Author"] == "py" and "FROM=py" in image.attrs["Config"]["Env"], image.attrs
assert image.history()[0]["Comment"] == "by python", image.history()
# Not followed: the packaged reference can miss what a short program writes.
short = client.containers.run("pyimage:1", detach=True, network_mode="none")
assert short.wait()["StatusCode"] == 0
assert short.logs() == b"1", short.logs()
short.remove()

root = unpacked(box.export())
assert root["tmp/one"] == b"1" and root["etc/passwd"].startswith(b"root:")

saved = b"".join(image.save(named=True))
names = set(unpacked([saved]))
assert "manifest.json" in names, names
client.images.remove("pyimage:1")
loaded = client.images.load(saved)
assert [i.id for i in loaded] == [image.id] and loaded[0].tags == ["pyimage:1"], loaded
client.images.remove("pyimage:1")

result = api.import_image_from_data(packed({"hello": b"hello"}), repository="pyroot", tag="1")
assert "sha256:" in result, result
imported = client.images.get("pyroot:1")
assert len(imported.attrs["RootFS"]["Layers"]) == 1, imported.attrs
client.images.remove("pyroot:1")
box.remove(force=True)
print("done")
