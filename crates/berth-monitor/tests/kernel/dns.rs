//! The network that a monitor keeps for its container: the namespace, held ports, and answers to names.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use berth_monitor::{
    HeldPort, LaunchDescriptors, LaunchRequest, NetworkChange, NetworkLaunch, RuntimeChoice,
    connect,
};
use berth_net::dns::names::{Member, NetworkNames};
use berth_net::dns::{DnsSettings, DnsSockets};
use berth_net::firewall::{Policy, Protocol};
use berth_sys::namespace::{self, Kind};
use berth_types::Signal;
use rustix::process::{Pid, kill_process_group};

use crate::stage::{Stage, until};

crate::tests!("dns": answers_go_on_without_a_daemon, networks_change_while_it_runs, runtimes_of_others_enter_the_namespace,
    descriptors_have_to_fit, names_cost_little_memory);

/// A network namespace with loopback up.
fn namespace() -> OwnedFd {
    std::thread::spawn(|| {
        namespace::unshare(Kind::Network.flag()).unwrap();
        berth_sys::network::bring_up_loopback().unwrap();
        namespace::open(Path::new("/proc/thread-self/ns/net")).unwrap()
    })
    .join()
    .unwrap()
}

fn descriptors() -> LaunchDescriptors {
    let namespace = namespace();
    let dns = DnsSockets::prepare_in(&namespace).unwrap();
    LaunchDescriptors {
        root: None,
        namespace: Some(namespace),
        dns: Some(dns),
        ports: Vec::new(),
    }
}

fn write_names(path: &Path, network: &str, name: &str, last: u8) {
    let mut names = NetworkNames::new(network);
    names.members.push(Member {
        container: "other".into(),
        names: vec![name.to_owned()],
        ipv4: Some(Ipv4Addr::new(10, 9, 0, last)),
        ..Member::default()
    });
    names.write(path).unwrap();
}

/// A container on one network, whose member `web` is 10.9.0.1.
fn stage(script: &str) -> (Stage, PathBuf) {
    let stage = Stage::shell(script);
    let path = stage.path().join("names");
    write_names(&path, "front", "web", 1);
    let mut settings = DnsSettings::new(&stage.id);
    settings.networks.push(path.clone());
    let stage = stage.with(|request| {
        request.network = Some(NetworkLaunch {
            namespace: true,
            dns: Some(settings),
            ports: Vec::new(),
        });
    });
    (stage, path)
}

/// Asks 127.0.0.11 in the network namespace of a process for an address. `None` for an answer without one.
fn ask(pid: i32, name: &str) -> Option<Ipv4Addr> {
    let name = name.to_owned();
    std::thread::spawn(move || {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = namespace::open(Path::new(&path)).unwrap();
        namespace::enter(namespace, Kind::Network).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        socket.send_to(&query, "127.0.0.11:53").unwrap();
        let mut answer = [0; 512];
        let (length, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!(from.to_string(), "127.0.0.11:53");
        let address: [u8; 4] = answer[length - 4..length].try_into().unwrap();
        (answer[7] > 0).then(|| address.into())
    })
    .join()
    .unwrap()
}

/// `kernel dns-daemon REQUEST`: launches with a network and waits to be killed.
pub(crate) fn daemon(arguments: &[OsString]) -> ExitCode {
    let file = PathBuf::from(&arguments[0]);
    let request: LaunchRequest = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let executable = Path::new("/proc/self/exe");
        let (handle, _) = berth_monitor::launch_with(executable, &request, descriptors())
            .await
            .unwrap();
        handle.start().await.unwrap();
        std::fs::write(file.with_extension("ready"), "").unwrap();
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

async fn answers_go_on_without_a_daemon() {
    let (stage, names) = stage("read x; exec nslookup web.front 127.0.0.11");
    let stage = stage.with(|request| request.open_stdin = true);
    stage.write_config();
    let file = stage.path().join("request.json");
    std::fs::write(&file, serde_json::to_vec(&stage.request).unwrap()).unwrap();
    let mut child = Command::new("/proc/self/exe")
        .arg("dns-daemon")
        .arg(&file)
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let ready = file.with_extension("ready");
    until("the daemon is ready", || ready.exists()).await;
    kill_process_group(Pid::from_child(&child), rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    let pid = {
        let handle = connect(stage.bundle()).await.unwrap().unwrap();
        handle.first_status().pid
    };
    // Nobody is connected now.
    assert_eq!(ask(pid, "web"), Some(Ipv4Addr::new(10, 9, 0, 1)));
    write_names(&names, "front", "web", 2);
    assert_eq!(ask(pid, "WEB.front"), Some(Ipv4Addr::new(10, 9, 0, 2)));
    assert_eq!(ask(pid, "nobody"), None);
    // Its own programs ask as well.
    let handle = connect(stage.bundle()).await.unwrap().unwrap();
    let mut stream = handle.attach(crate::stage::ALL).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"go\n")
        .await
        .unwrap();
    assert_eq!(stage.over(&handle).await.exit_code, 0);
    assert!(stage.log().0.contains("10.9.0.2"), "{}", stage.log().0);
}

async fn networks_change_while_it_runs() {
    let (stage, _) = stage("exec sleep 1000");
    stage.write_config();
    let executable = Path::new("/proc/self/exe");
    let (handle, created) = berth_monitor::launch_with(executable, &stage.request, descriptors())
        .await
        .unwrap();
    handle.start().await.unwrap();
    assert_eq!(ask(created.pid, "late"), None);
    let second = stage.path().join("second");
    write_names(&second, "back", "late", 7);
    let mut settings = DnsSettings::new(&stage.id);
    settings.networks.push(second);
    // More ports than one frame carries.
    let listeners: Vec<TcpListener> = (0..9)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect();
    let change = NetworkChange {
        dns: Some(settings),
        hold: addresses
            .iter()
            .map(|address| HeldPort {
                name: address.to_string(),
                protocol: Protocol::Tcp,
                target: SocketAddr::from(([127, 0, 0, 1], 1)),
                policy: Policy::Compat,
            })
            .collect(),
        ..NetworkChange::default()
    };
    let ports = listeners.into_iter().map(OwnedFd::from).collect();
    handle.change_network(change, None, ports).await.unwrap();
    assert_eq!(
        ask(created.pid, "late.back"),
        Some(Ipv4Addr::new(10, 9, 0, 7))
    );
    assert_eq!(ask(created.pid, "web"), None);
    for address in &addresses {
        assert!(TcpListener::bind(address).is_err(), "{address} is free");
    }
    let change = NetworkChange {
        release: vec![addresses[0].to_string()],
        ..NetworkChange::default()
    };
    handle
        .change_network(change, None, Vec::new())
        .await
        .unwrap();
    assert!(TcpListener::bind(addresses[0]).is_ok());
    assert!(TcpListener::bind(addresses[8]).is_err());
    handle
        .kill(Signal::parse("SIGKILL").unwrap())
        .await
        .unwrap();
    stage.over(&handle).await;
    assert!(TcpListener::bind(addresses[8]).is_ok());
}

async fn runtimes_of_others_enter_the_namespace() {
    let mut runtimes = vec![RuntimeChoice::Builtin];
    for name in ["/usr/bin/crun", "/usr/sbin/runc", "/usr/bin/runc"] {
        if Path::new(name).exists() {
            runtimes.push(RuntimeChoice::Program {
                path: name.into(),
                args: Vec::new(),
            });
        }
    }
    for runtime in runtimes {
        let (stage, _) = stage("readlink /proc/self/ns/net; exec nslookup web 127.0.0.11");
        let stage = stage.with(|request| request.runtime = runtime.clone());
        let stage = match &runtime {
            RuntimeChoice::Builtin => stage,
            RuntimeChoice::Program { .. } => {
                stage.configure(|config| config["root"]["path"] = "rootfs".into())
            }
        };
        stage.write_config();
        let given = descriptors();
        let inode = namespace::identity(given.namespace.as_ref().unwrap())
            .unwrap()
            .1;
        let executable = Path::new("/proc/self/exe");
        let handle = match berth_monitor::launch_with(executable, &stage.request, given).await {
            Ok((handle, _)) => handle,
            // crun cannot work on this machine at all.
            Err(error) if error.to_string().contains("hybrid mode not supported") => continue,
            Err(error) => panic!("{runtime:?}: {error}"),
        };
        handle.start().await.unwrap();
        assert_eq!(stage.over(&handle).await.exit_code, 0, "{runtime:?}");
        let output = stage.log().0;
        assert!(output.contains(&format!("net:[{inode}]")), "{output}");
        assert!(output.contains("10.9.0.1"), "{output}");
    }
}

async fn descriptors_have_to_fit() {
    let (stage, _) = stage("true");
    stage.write_config();
    let executable = Path::new("/proc/self/exe");
    let none = LaunchDescriptors::default();
    let refused = berth_monitor::launch_with(executable, &stage.request, none).await;
    assert!(refused.unwrap_err().to_string().contains("needs 3"));
    // A container without a network namespace of its own cannot be given one.
    let (stage, _) = self::stage("true");
    let stage = stage.configure(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "network");
    });
    stage.write_config();
    let refused = berth_monitor::launch_with(executable, &stage.request, descriptors()).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("without one of its own")
    );
}

/// Bytes of a process that are its own alone.
fn private(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("Private_Dirty:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum::<u64>()
        * 1024
}

async fn names_cost_little_memory() {
    let (plain, (named, _)) = (Stage::shell("exec sleep 1000"), stage("exec sleep 1000"));
    named.write_config();
    let without = plain.launch().await;
    without.start().await.unwrap();
    let executable = Path::new("/proc/self/exe");
    let (with, created) = berth_monitor::launch_with(executable, &named.request, descriptors())
        .await
        .unwrap();
    with.start().await.unwrap();
    for _ in 0..200 {
        assert!(ask(created.pid, "web").is_some());
        assert!(ask(created.pid, "nobody").is_none());
    }
    let pids = [&without, &with].map(|handle| handle.first_status().monitor_pid);
    until("the resolver has given back what it used", || {
        private(pids[1]) < private(pids[0]) + (128 << 10)
    })
    .await;
    for handle in [with, without] {
        handle
            .kill(Signal::parse("SIGKILL").unwrap())
            .await
            .unwrap();
        handle.gone().await;
    }
}
