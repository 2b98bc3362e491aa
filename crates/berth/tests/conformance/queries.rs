//! Questions about containers: ps, inspect, events, top, stats.

use berth_testkit::wait;

use crate::subject::Subject;

pub(crate) fn ps_filters_and_formats(on: &Subject) {
    on.sleeper("one", "--label role=web --label tier=front");
    on.run("--name two --label role=db busybox sh -c 'exit 3'")
        .exits(3);
    on.cli("create --network none --name three busybox true")
        .ok();
    let names = |flags: &str| {
        let mut names: Vec<String> = on
            .cli(&format!("ps --format '{{{{.Names}}}}' {flags}"))
            .ok()
            .stdout
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(""), "one");
    assert_eq!(names("-a"), "one three two");
    assert_eq!(names("-a --filter status=exited"), "two");
    assert_eq!(names("-a --filter status=created"), "three");
    assert_eq!(names("-a --filter exited=3"), "two");
    assert_eq!(names("-a --filter label=role"), "one two");
    assert_eq!(
        names("-a --filter label=role=web --filter label=tier=front"),
        "one"
    );
    assert_eq!(names("-a --filter name=t"), "three two");
    assert_eq!(names("-a --filter ancestor=busybox"), "one three two");
    assert_eq!(names("-l"), "three");
    assert_eq!(names("-n 2"), "three two");
    on.cli("ps --filter nonsense=1").exits(1).says("nonsense");
    on.cli("ps --filter status=nonsense")
        .exits(1)
        .says("nonsense");

    let table = on.cli("ps -a").ok();
    let head = table.stdout.lines().next().unwrap_or_default();
    let titles: Vec<&str> = head
        .split("  ")
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .collect();
    assert_eq!(
        titles,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    assert!(table.stdout.contains("Exited (3) "), "{table}");
    assert!(table.stdout.contains("\"sh -c 'exit 3'\""), "{table}");
    on.cli("ps -a --format '{{.Label \"role\"}}/{{.Image}}' --filter name=one")
        .ok()
        .prints("web/busybox");
    let id = on.cli("ps -q --no-trunc").ok().text().to_owned();
    assert_eq!(on.cli("ps -q").ok().text(), &id[..12]);
    // The word "json" alone is newer than the client of Debian 12.
    on.cli("ps -a --format '{{json .}}'")
        .ok()
        .prints("\"Names\":\"two\"");
}

pub(crate) fn inspect_formats(on: &Subject) {
    on.sleeper("box", "--label a=b -e X=1 --memory 64m");
    let of = |format: &str| {
        on.cli(&format!("inspect -f '{format}' box"))
            .ok()
            .text()
            .to_owned()
    };
    assert_eq!(
        of("{{.State.Status}} {{.Name}} {{.HostConfig.Memory}}"),
        "running /box 67108864"
    );
    assert_eq!(of("{{json .Config.Labels}}"), r#"{"a":"b"}"#);
    assert_eq!(of("{{range .Config.Cmd}}[{{.}}]{{end}}"), "[sleep][1000]");
    assert_eq!(of("{{index .Config.Env 0}}"), "X=1");
    assert_eq!(of("{{.Path}} {{join .Args \",\"}}"), "sleep 1000");
    on.cli("inspect -f '{{.NoSuchField}}' box").exits(1);
    on.cli("inspect -f '{{' box").exits(64).says("template");
    let whole: serde_json::Value =
        serde_json::from_str(&on.cli("inspect box").ok().stdout).expect("JSON");
    assert_eq!(whole[0]["Name"], "/box");
    // What is found is shown all the same.
    on.cli("inspect box no-such")
        .exits(1)
        .says("no such")
        .prints("/box");
}

pub(crate) fn events_tell_the_story(on: &Subject) {
    on.run("--name story --label chapter=1 busybox sh -c 'exit 2'")
        .exits(2);
    on.cli("rm story").ok();
    let mut seen = String::new();
    wait::until("all events", || {
        let now = on.cli(
            "events --since 0 --until 0s --filter container=story --format '{{.Type}} {{.Action}}'",
        );
        seen = now.stdout;
        seen.contains("container destroy")
    });
    let actions: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.strip_prefix("container "))
        .filter(|action| matches!(*action, "create" | "attach" | "start" | "die" | "destroy"))
        .collect();
    assert_eq!(actions, ["create", "attach", "start", "die", "destroy"]);
    let died = on
        .cli("events --since 0 --until 0s --filter event=die --format '{{json .}}'")
        .ok();
    let died: serde_json::Value = serde_json::from_str(died.text()).expect("one event as JSON");
    assert_eq!(died["Actor"]["Attributes"]["exitCode"], "2");
    assert_eq!(died["Actor"]["Attributes"]["chapter"], "1");
    assert_eq!(died["Actor"]["Attributes"]["image"], "busybox");
    let none = on
        .cli("events --since 0 --until 0s --filter label=chapter=2")
        .ok();
    assert_eq!(none.stdout, "");
}

pub(crate) fn top_and_stats(on: &Subject) {
    on.sleeper("box", "--memory 64m");
    on.cli("top box").ok().prints("sleep 1000").prints("PID");
    on.cli("top box -o pid,comm")
        .ok()
        .prints("COMMAND")
        .prints("sleep");
    let stats = on
        .cli("stats --no-stream --format '{{.Name}}|{{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}}' box")
        .ok();
    let fields: Vec<&str> = stats.text().split('|').collect();
    assert_eq!(fields[0], "box");
    assert!(fields[1].ends_with("/ 64MiB"), "{stats}");
    assert_eq!(fields[2], "1");
    assert!(fields[3].ends_with('%'), "{stats}");
    on.cli("stop -t 0 box").ok();
    on.cli("top box").exits(1).says("is not running");
}
