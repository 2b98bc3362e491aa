//! Mistakes on the command line are told in the stock client's words, with its exit status.

mod support;

use support::{Answer, FakeEngine, Told, client, stock};

/// Command lines that end before or at the request. A no-break space stands for a space in a word.
const LINES: &[&str] = &[
    "run",
    "run --foo x",
    "run -Zx y",
    "run -iZx y",
    "run --name",
    "run -p",
    "run -m 5x b",
    "run -m abc b",
    "run -m 1.5.5m b",
    "run --rm=x b",
    "run --pids-limit x b",
    "run --cpus x b",
    "run --cpus 1/3 b",
    "run --blkio-weight 70000 b",
    "run --ulimit x b",
    "run --ulimit foo=1 b",
    "run --ulimit nofile=5:1 b",
    "run --ulimit nofile=1:2:3 b",
    "run --gpus x=y b",
    "run --gpus x b",
    "run --health-interval x b",
    "run --health-interval 5 b",
    "run --health-retries -1 b",
    "run --health-timeout -1s b",
    "run --health-cmd a --no-healthcheck b",
    "run --sysctl x b",
    "run -l = b",
    "run -l a\u{a0}b=c b",
    "run -e =x b",
    "run -a foo b",
    "run --dns x b",
    "run --dns-search -x b",
    "run --add-host foo b",
    "run --add-host foo:bar b",
    "run --link a:b:c b",
    "run --device-cgroup-rule x b",
    "run --blkio-weight-device x b",
    "run --blkio-weight-device /dev/a:x b",
    "run --device-read-bps /dev/a:x b",
    "run --device-read-iops /dev/a:-1 b",
    "run --mount type=bind b",
    "run --mount type=tmpfs,dst=/b,bind-propagation=shared b",
    "run --mount type=tmpfs,dst=/b,tmpfs-size=x b",
    "run --mount type=bind,src=/a,dst=/b,foo b",
    "run --network name=a,foo=b b",
    "run --network a --network host b",
    "run --network a --network a b",
    "run --network= b",
    "run --network-alias x b",
    "run -v /a:/b:ro:x b",
    "run -v /a::/b b",
    "run -p abc b",
    "run -p 99999 b",
    "run -p 1.2.3:80:80 b",
    "run -p 80/foo b",
    "run -p 8000-8001:80-83 b",
    "run -p foo=80,=x b",
    "run --expose x b",
    "run --expose 80-70 b",
    "run --device : b",
    "run --device a b",
    "run --device /dev/a:/dev/b:x b",
    "run --security-opt seccomp=/nofile b",
    "run --pid foo b",
    "run --uts foo b",
    "run --userns foo b",
    "run --cgroupns foo b",
    "run --memory-swappiness 200 b",
    "run --mac-address x b",
    "run --storage-opt x b",
    "run --log-driver none --log-opt a=b b",
    "run --restart :1 b",
    "run --restart on-failure:x b",
    "run --rm --restart always b",
    "run --env-file /nofile b",
    "run --label-file /nofile b",
    "run --pull foo b",
    "run -d -a stdout b",
    "run -it b",
    "run b",
    "create",
    "create --foo b",
    "create b",
    "exec a",
    "exec --foo a b",
    "exec a b",
    "exec -it a b",
    "foo",
    "container foo",
    "ps foo",
    "ps --foo",
    "ps -n x",
    "ps --filter x",
    "ps --format {{.Foo}}",
    "ps --format {{",
    "ps --format {{foo}}",
    "rm",
    "rm x",
    "rm -f x",
    "rename a",
    "rename a b",
    "logs",
    "logs a b",
    "logs a",
    "kill",
    "kill a b",
    "stop -t x y",
    "stop a",
    "wait",
    "wait a",
    "start a",
    "start -a a b",
    "start -a a",
    "attach a",
    "pause a",
    "top a",
    "port a",
    "port",
    "update a",
    "update",
    "update -m 64m a",
    "inspect",
    "inspect --format {{.Foo}} a",
    "inspect --format {{ a",
    "inspect --format {{foo}} a",
    "images --format {{.Foo}}",
    "container prune --foo",
    "container rm",
    "container ls foo",
    "image rm",
    "system df foo",
    "system foo",
    "help foo",
    "container inspect --format {{ a",
    "image inspect --format {{ a",
    "attach a b",
    "port a 80/foo/x",
    "logs --tail x a",
    "events --since x",
    "run --shm-size x b",
    "run --stop-timeout x b",
    "run --oom-score-adj x b",
    "exec -e =x a b",
    "exec --env-file /nofile a b",
    "update --cpus x a",
    "update --restart :1 a",
    "create --cidfile / b",
    "create --cidfile /nodir/x b",
    "create -it --rm b",
    "container inspect a",
    "image inspect a",
    "images -f x",
    "rmi",
    "rmi x",
    "tag a",
    "tag a b",
    "history x",
    "pull",
    "pull a b",
    "pull -a x:1",
    "load -i /nofile",
    "version x",
    "info x",
    "events x",
    "stats --format",
    "stats --no-stream a",
    "--foo ps",
];

fn engine() -> FakeEngine {
    FakeEngine::new(|request| {
        let path = request.path.split('?').next().unwrap_or_default();
        if path == "/containers/json" {
            return Answer::ok("[{\"Id\":\"0123456789abcdef\",\"Names\":[\"/a\"],\"Labels\":{}}]");
        }
        Answer::error("409 Conflict", "it is not possible")
    })
}

fn told(engine: &FakeEngine, program: &std::path::Path, line: &str) -> Told {
    let words: Vec<String> = line
        .split(' ')
        .map(|word| word.replace('\u{a0}', " "))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    engine.run(program, &words)
}

#[test]
fn mistakes_are_told_as_the_stock_client_tells_them() {
    let Some(stock) = stock() else { return };
    let engine = engine();
    let mut differences = Vec::new();
    for line in LINES {
        let (theirs, ours) = (told(&engine, &stock, line), told(&engine, &client(), line));
        if theirs != ours {
            differences.push(format!(
                "== {line}\n-- stock\n{}-- ours\n{}",
                show(&theirs),
                show(&ours)
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn show(told: &Told) -> String {
    format!("{}\n{}\n{}\n", told.status, told.stdout, told.stderr)
}
