//! What templates give, and how mistakes in them are told.

use super::*;
use crate::output::document::Document;

fn container() -> serde_json::Value {
    serde_json::from_str(
        r#"{"Id":"abc","Name":"/web","State":{"Status":"running","Running":true,"Pid":42},
        "Config":{"Hostname":"h","Env":["A=1","B=2"],"Cmd":["sh","-c"],"Entrypoint":null,
          "Labels":{"b":"2","a.x":"1"},"Volumes":null},
        "HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"Binds":null,"PidsLimit":null,"PortBindings":{}},
        "NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"9/udp":null},
          "Networks":{"bridge":{"IPAddress":"172.17.0.2"}}},
        "Mounts":[{"Type":"bind","Source":"/a","Destination":"/b"}]}"#,
    )
    .expect("valid JSON")
}

fn render(source: &str) -> Result<String, String> {
    let document = Document::new(&container());
    Template::parse(source)?.render(&document.value, &document.notes, Functions::Values)
}

#[test]
fn templates_give_what_go_gives() {
    for (source, wanted) in [
        ("{{.State.Running}}", "true"),
        ("{{.State.Pid}} {{.Name}}", "42 /web"),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "a.x=1;b=2;",
        ),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        (
            "{{index .Config.Labels \"a.x\"}}|{{index .Config.Labels \"no\"}}|",
            "1||",
        ),
        ("{{.Config.Labels.nope}}", "<no value>"),
        ("{{.Config.Labels.b}}", "2"),
        ("{{json .Config.Labels}}", r#"{"b":"2","a.x":"1"}"#),
        (
            "{{json .State}}",
            r#"{"Status":"running","Running":true,"Pid":42}"#,
        ),
        (
            "{{json .NetworkSettings.Ports}}",
            r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"9/udp":null}"#,
        ),
        (
            "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
            "8080",
        ),
        (
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            "172.17.0.2",
        ),
        (
            "{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{(index $conf 0).HostPort}}\n{{break}}{{end}}",
            "80/tcp -> 8080\n",
        ),
        (
            "{{json .Config.Entrypoint}} {{json .Config.Volumes}}",
            "null null",
        ),
        (
            "{{.HostConfig.RestartPolicy}} {{.Config.Labels}}",
            "{no 0} map[a.x:1 b:2]",
        ),
        ("{{.NetworkSettings.Networks.nope.IPAddress}}", "<no value>"),
        ("{{if .State.Health}}x{{else}}none{{end}}", "none"),
        (
            "{{.State.Health}} {{.HostConfig.Init}} {{.Config.Volumes.x}}",
            "<nil> <nil> <no value>",
        ),
        ("{{with .State.Health}}{{.Status}}{{end}}.", "."),
        (
            "{{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.Volumes}}",
            "[] [sh -c] map[]",
        ),
        (
            "{{join .Config.Cmd \",\"}} {{upper .Name}} {{title \"ab cd\"}}",
            "sh,-c /WEB Ab Cd",
        ),
        ("{{len .Mounts}} {{(index .Mounts 0).Source}}", "1 /a"),
        (
            "{{range .Mounts}}{{.Name}}{{.Source}}:{{.Destination}}{{end}}",
            "/a:/b",
        ),
        ("{{printf \"%s-%d\" .Id .State.Pid}}", "abc-42"),
        ("{{truncate .Name 3}} {{pad .Id 1 2}}|", "/we  abc  |"),
        ("{{split .Name \"/\"}}", "[ web]"),
        (
            "{{eq .State.Status \"running\"}} {{not .State.Running}}",
            "true false",
        ),
        ("{{.Id | upper | lower}}", "abc"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(wanted), "{source}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (source, wanted) in [
        (
            "{{.State.Health.Status}}",
            "template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\"",
        ),
        (
            "{{.Foo}}",
            "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"",
        ),
        ("{{foo .Id}}", "template: :1: function \"foo\" not defined"),
    ] {
        assert_eq!(render(source).expect_err(source), wanted);
    }
    assert!(
        render("{{.Id")
            .expect_err("unclosed")
            .starts_with("template: :1: unclosed action")
    );
}

#[test]
fn mentioned_fields_are_known_before_execution() {
    let template = Template::parse("table {{if .ID}}{{.Size | upper}}{{end}}").expect("parses");
    assert!(template.mentions("Size") && template.mentions("ID") && !template.mentions("Names"));
}
