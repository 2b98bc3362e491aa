"""Every operation on networks, by Docker's library for Python."""
import docker
from docker.types import EndpointConfig, IPAMConfig, IPAMPool

client = docker.from_env(timeout=60)
api = client.api

assert {n.name for n in client.networks.list()} == {"bridge", "host", "none"}

pool = IPAMPool(subnet="10.120.0.0/24", gateway="10.120.0.1", iprange="10.120.0.128/25")
net = client.networks.create(
    "pynet",
    driver="bridge",
    ipam=IPAMConfig(pool_configs=[pool]),
    labels={"a": "b"},
    options={"com.docker.network.driver.mtu": "1400"},
    check_duplicate=True,
)
assert client.networks.get("pynet").id == net.id
assert [n.id for n in client.networks.list(names=["pynet"])] == [net.id]
assert [n.id for n in client.networks.list(filters={"label": "a=b"})] == [net.id]
net.reload()
assert net.attrs["IPAM"]["Config"][0]["Subnet"] == "10.120.0.0/24", net.attrs
assert net.attrs["Options"]["com.docker.network.driver.mtu"] == "1400", net.attrs


def refused(status, call, *arguments):
    try:
        call(*arguments)
    except docker.errors.APIError as error:
        assert error.status_code == status, error
    else:
        raise AssertionError("not refused")


refused(409, lambda: client.networks.create("pynet", check_duplicate=True))

endpoint = EndpointConfig(api._version, aliases=["alias"], ipv4_address="10.120.0.200")
made = api.create_container(
    "busybox",
    ["sleep", "1000"],
    name="py",
    networking_config=api.create_networking_config({"pynet": endpoint}),
    host_config=api.create_host_config(
        network_mode="pynet", port_bindings={80: ("127.0.0.1", 8088)}
    ),
    ports=[80],
)
api.start(made["Id"])
box = client.containers.get("py")
seen = box.attrs["NetworkSettings"]["Networks"]["pynet"]
assert seen["IPAddress"] == "10.120.0.200", seen
assert "alias" in seen["Aliases"], seen
assert box.ports["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8088"}], box.ports
assert api.port("py", 80)[0]["HostPort"] == "8088"
net.reload()
assert [c.name for c in net.containers] == ["py"]

second = client.networks.create("second", internal=True, enable_ipv6=False)
second.connect(box, aliases=["other"])
box.reload()
assert set(box.attrs["NetworkSettings"]["Networks"]) == {"pynet", "second"}
refused(403, second.remove)
second.disconnect(box)
box.reload()
assert set(box.attrs["NetworkSettings"]["Networks"]) == {"pynet"}
second.remove()
refused(404, client.networks.get, "second")

text = client.containers.run(
    "busybox", ["ip", "-4", "address", "show", "eth0"], network="pynet", remove=True
)
assert b"10.120.0." in text, text
box.remove(force=True)
assert "pynet" in client.networks.prune()["NetworksDeleted"]
print("done")
