//! `create` sends what the stock client sends: equal JSON for equal words.

mod support;

use serde_json::Value;
use support::{Answer, FakeEngine, client, stock};

/// Command lines without the program; `FILES` stands for a directory with files to name.
const LINES: &[&str] = &[
    "busybox",
    "busybox true",
    "-it busybox sh -c ls",
    "-i busybox",
    "-a stdout busybox",
    "-a stdin -a STDERR busybox",
    "--rm busybox",
    "--restart on-failure:3 busybox",
    "--restart unless-stopped busybox",
    "--restart= busybox",
    "-h box --domainname dom busybox",
    "-u 1000:1000 -w /tmp --group-add 5 --group-add audio busybox",
    "-e A=1 -e B=two=2 -e FROM_CLIENT -e UNSET_HERE busybox",
    "-e A=1 -e A=2 busybox",
    "--env-file FILES/env -e A=9 busybox",
    "-l a=1 -l b --label c.d=e=f --label-file FILES/labels busybox",
    "--entrypoint /bin/sh busybox -c true",
    "--entrypoint= busybox true",
    "-m 64m --memory-swap 128m --memory-reservation 32m --memory-swappiness 10 busybox",
    "--memory-swap -1 -m 1g --oom-kill-disable --oom-score-adj -100 busybox",
    "--cpus 1.5 --cpu-shares 512 --cpuset-cpus 0-1 --cpuset-mems 0 busybox",
    "--cpu-period 100000 --cpu-quota 50000 --cpu-rt-period 1000 --cpu-rt-runtime 500 busybox",
    "--pids-limit 100 --blkio-weight 300 --shm-size 16m busybox",
    "--pids-limit -1 busybox",
    "--blkio-weight-device /dev/sda:100 --device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2mb busybox",
    "--device-read-iops /dev/sda:100 --device-write-iops /dev/sda:200 busybox",
    "--device /dev/fuse --device /dev/a:/dev/b:r --device //dev/../dev/null:rw busybox",
    "--device vendor.com/class=name --device-cgroup-rule=c\u{a0}42:*\u{a0}rmw busybox",
    "--gpus all busybox",
    "--gpus driver=nvidia,count=2,capabilities=utility busybox",
    "--ulimit nofile=1024:2048 --ulimit core=0 --ulimit nofile=10 busybox",
    "--cap-add NET_ADMIN --cap-add ALL --cap-drop MKNOD busybox",
    "--privileged --security-opt no-new-privileges --security-opt label=disable busybox",
    "--security-opt seccomp=FILES/seccomp.json --security-opt apparmor=unconfined busybox",
    "--security-opt seccomp=unconfined --security-opt systempaths=unconfined busybox",
    "--read-only --tmpfs /run --tmpfs /tmp:size=1m,mode=1777 busybox",
    "-v /a:/b -v name:/c:ro -v /anonymous busybox",
    "-v ./here:/b:z -v .:/c busybox",
    "-v /a:/b:rslave,ro -v /a:/b:rslave,ro busybox",
    "--mount type=bind,src=/a,dst=/b,ro --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=755 busybox",
    "--mount type=bind,source=./x,target=/b,bind-propagation=rshared busybox",
    "--mount type=bind,src=/a,dst=/b,readonly,bind-recursive=readonly,bind-propagation=rprivate busybox",
    "--mount type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=1 busybox",
    "--mount type=image,src=i,dst=/i,image-subpath=sub busybox",
    "--volumes-from other:ro --volume-driver local busybox",
    "-p 80 -p 8080:80 -p 127.0.0.1:53:53/udp -p 8000-8001:9000-9001 busybox",
    "-p 8000-8010:80 -p [::1]:81:81 -p published=90,target=91,protocol=udp busybox",
    "-P --expose 80 --expose 100-102/udp busybox",
    "--network none busybox",
    "--network host busybox",
    "--network container:abc busybox",
    "--network mine --network-alias a --net-alias b --ip 10.0.0.2 --ip6 fd00::2 --link-local-ip 169.254.1.1 busybox",
    "--network name=mine,alias=x,driver-opt=k=v,ip=10.0.0.3 --mac-address 02:42:ac:11:00:02 busybox",
    "--network one --network name=two,alias=y,gw-priority=3 busybox",
    "--mac-address 02:42:ac:11:00:02 --link other:alias busybox",
    "--network mine --link other:alias busybox",
    "--dns 1.1.1.1 --dns-search example.com --dns-option ndots:1 --dns-opt timeout:2 busybox",
    "--add-host a:1.2.3.4 --add-host b=host-gateway --add-host c:[::1] busybox",
    "--sysctl net.core.somaxconn=1024 --sysctl kernel.shmmax=1 busybox",
    "--pid host --ipc shareable --uts host --userns host --cgroupns private busybox",
    "--pid container:x --ipc container:x --cgroup-parent /p --runtime crun busybox",
    "--stop-signal SIGINT --stop-timeout 3 --init busybox",
    "--init=false --stop-timeout 0 busybox",
    "--log-driver json-file --log-opt max-size=1m --log-opt max-file=3 busybox",
    "--health-cmd true --health-interval 1m30s --health-retries 3 --health-timeout 1.5s --health-start-period 2s --health-start-interval 500ms busybox",
    "--no-healthcheck busybox",
    "--annotation a=b --annotation c --storage-opt size=1G --isolation default busybox",
    "--use-api-socket busybox",
    "--name one --platform linux/amd64 busybox:1.36",
    "--tty=false --interactive=true --rm=false busybox",
];

fn engine() -> FakeEngine {
    let engine = FakeEngine::new(|request| match request.path.split('?').next() {
        Some("/containers/create") => Answer {
            status: "201 Created",
            ..Answer::ok("{\"Id\":\"0123456789abcdef\",\"Warnings\":[]}".to_owned())
        },
        _ => Answer::error("404 Not Found", "page not found"),
    });
    let file =
        |name: &str, text: &str| std::fs::write(engine.home().join(name), text).expect("writes");
    file("env", "# first\nA=1\nB=x y\nFROM_CLIENT\nUNSET_HERE\nC=\n");
    file("labels", "from.file=1\na=from file\nbare\n");
    file(
        "seccomp.json",
        "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\",\n  \"syscalls\": []\n}\n",
    );
    engine
}

/// The words of a line; a no-break space stands for a space inside a word.
fn words(line: &str, engine: &FakeEngine) -> Vec<String> {
    let home = engine.home().display().to_string();
    let mut words = vec!["create".to_owned()];
    words.extend(
        line.split(' ')
            .map(|word| word.replace("FILES", &home).replace('\u{a0}', " ")),
    );
    words
}

fn sent(engine: &FakeEngine, program: &std::path::Path, line: &str) -> (String, Value) {
    let words = words(line, engine);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = engine.run(program, &words);
    assert_eq!(told.status, 0, "{line}: {told:?}");
    assert_eq!(told.stdout, "0123456789abcdef\n", "{line}");
    let requests = engine.take();
    let create: Vec<_> = requests
        .iter()
        .filter(|request| request.path.starts_with("/containers/create"))
        .collect();
    assert_eq!(create.len(), 1, "{line}: {requests:?}");
    (
        create[0].path.clone(),
        serde_json::from_slice(&create[0].body).expect("is JSON"),
    )
}

/// Lists whose order has no meaning and which the stock client shuffles.
fn normalised(mut body: Value) -> Value {
    if let Some(env) = body["Env"].as_array_mut() {
        env.sort_by_key(Value::to_string);
    }
    for list in ["Binds", "Ulimits"] {
        if let Some(list) = body["HostConfig"][list].as_array_mut() {
            list.sort_by_key(Value::to_string);
        }
    }
    body
}

#[test]
fn requests_equal_those_of_the_stock_client() {
    let Some(stock) = stock() else { return };
    let engine = engine();
    let mut differences = Vec::new();
    for line in LINES {
        let (stock_path, theirs) = sent(&engine, &stock, line);
        let (own_path, ours) = sent(&engine, &client(), line);
        let (theirs, ours) = (normalised(theirs), normalised(ours));
        if stock_path != own_path {
            differences.push(format!("{line}\n  stock {stock_path}\n  ours  {own_path}"));
        }
        compare(&format!("{line}\n  "), "", &theirs, &ours, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn compare(line: &str, place: &str, theirs: &Value, ours: &Value, differences: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<&String> =
                left.keys().chain(right.keys()).collect();
            for name in names {
                let place = format!("{place}.{name}");
                match (left.get(name), right.get(name)) {
                    (Some(left), Some(right)) => compare(line, &place, left, right, differences),
                    (left, right) => {
                        differences.push(format!("{line}{place}: stock {left:?}, ours {right:?}"))
                    }
                }
            }
        }
        _ if theirs == ours => {}
        _ => differences.push(format!("{line}{place}: stock {theirs}, ours {ours}")),
    }
}

#[test]
fn a_request_of_everything_is_as_recorded() {
    let engine = engine();
    let line = "-it --rm -e A=1 -l b=2 -p 8080:80 -v /a:/b --mount type=tmpfs,dst=/t -m 64m --cpus 1.5 \
                --ulimit nofile=10 --cap-add ALL --network mine --network-alias x --health-cmd true \
                --log-driver local --sysctl net.core.somaxconn=1 --init --stop-timeout 3 busybox sh";
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, body) = sent(&engine, &client(), &line);
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).expect("is JSON"));
}
