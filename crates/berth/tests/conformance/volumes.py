"""Every operation on volumes, by Docker's library for Python."""
import docker
from docker.types import DriverConfig, Mount

client = docker.from_env(timeout=60)

assert client.volumes.list() == []
data = client.volumes.create("pydata", driver="local", labels={"a": "b"})
assert data.name == "pydata" and data.attrs["Driver"] == "local", data.attrs
assert data.attrs["Labels"] == {"a": "b"}, data.attrs
assert data.attrs["Mountpoint"].endswith("/volumes/pydata/_data"), data.attrs
assert client.volumes.get("pydata").id == "pydata"
assert [v.name for v in client.volumes.list(filters={"label": "a=b"})] == ["pydata"]
assert client.volumes.list(filters={"dangling": False}) == []


def refused(status, call):
    try:
        call()
    except docker.errors.APIError as error:
        assert error.status_code == status, error
    else:
        raise AssertionError("not refused")


refused(404, lambda: client.volumes.get("nosuch"))
refused(400, lambda: client.volumes.create("bad/name"))

mounts = [
    Mount("/one", "pydata"),
    Mount(
        "/two",
        "pymemory",
        type="volume",
        labels={"c": "d"},
        driver_config=DriverConfig("local", {"type": "tmpfs", "device": "tmpfs"}),
    ),
]
said = client.containers.run(
    "busybox",
    ["sh", "-c", "echo kept >/one/file; grep -c ' /two tmpfs' /proc/mounts"],
    mounts=mounts,
    network_mode="none",
    remove=True,
)
assert said.strip() == b"1", said
said = client.containers.run(
    "busybox",
    ["cat", "/x/file"],
    volumes={"pydata": {"bind": "/x", "mode": "ro"}},
    network_mode="none",
    remove=True,
)
assert said.strip() == b"kept", said
assert client.volumes.get("pymemory").attrs["Labels"] == {"c": "d"}

box = client.containers.create(
    "busybox", "true", volumes=["/own"], volumes_from=[], network_mode="none"
)
other = client.containers.create(
    "busybox", "true", volumes_from=[box.id + ":ro"], network_mode="none"
)
(own,) = box.attrs["Mounts"]
assert own["Type"] == "volume" and own["RW"] and own["Destination"] == "/own", own
(theirs,) = other.attrs["Mounts"]
assert theirs["Name"] == own["Name"] and not theirs["RW"], theirs
refused(409, lambda: client.volumes.get(own["Name"]).remove())
usage = {v["Name"]: v["UsageData"] for v in client.df()["Volumes"]}
# The packaged reference does not count who took it over.
assert usage[own["Name"]]["RefCount"] in (1, 2), usage
# The content, or what the disk has allocated for it.
assert usage["pydata"]["RefCount"] == 0 and 5 <= usage["pydata"]["Size"] < 1 << 20, usage
other.remove()
box.remove(v=True)
refused(404, lambda: client.volumes.get(own["Name"]))

client.volumes.get("pymemory").remove()
data.remove(force=True)
report = client.volumes.prune()
assert report["SpaceReclaimed"] == 0, report
assert client.volumes.list() == []

print("done")
