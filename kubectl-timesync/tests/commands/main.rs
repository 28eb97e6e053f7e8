//! The program as kubectl runs it, against a server that answers as an API server does for a user with the role of a
//! viewer: policies and NodeClocks can be read, nothing else. Each test has a server of its own, on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod cluster;
mod proxy;
mod terminal;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, text},
    proxy::proxy_to,
    terminal::Terminal,
};

#[test]
fn a_viewers_rights_suffice() {
    let cluster = Cluster::of_fault("viewer", "holdover");
    let status = cluster.told("status");
    assert!(status.contains("1 of 1 node synchronised (1 Holdover)"), "{status}");
    assert!(status.contains("nodes (not permitted)"), "{status}");
    assert!(!status.contains('\x1b'), "a pipe has no colours: {status:?}");
    let nodes = cluster.told("nodes");
    assert!(
        nodes.lines().nth(1).is_some_and(|line| line.starts_with("n1     default   Holdover")),
        "{nodes}"
    );
    assert!(cluster.told("sources n1").contains("Unreachable"));
    let why = cluster.told("why n1");
    assert!(why.contains("a (192.0.2.10), b (198.51.100.7): It does not answer"), "{why}");
    let words = why.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("nodes (not permitted), pods (not permitted), events (not permitted)"), "{why}");
    let why: Value = serde_json::from_str(&cluster.told("why n1 -o json")).unwrap();
    assert_eq!(why["chains"][0]["causes"][1]["id"], "NoReply");
    assert_eq!(cluster.told("wait --for synchronized"), "synchronised: 1 node\n");
    assert_eq!(cluster.told("__complete -- why n"), "n1\n:4\n");
    let asked = cluster.server.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|line| line.starts_with("GET ")), "only reads: {asked:?}");
}

#[test]
fn exit_codes_say_what_happened() {
    let cluster = Cluster::of_fault("codes", "error-bound");
    let code = |words: &str| {
        let output = cluster.run(words);
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (late, why) = code("wait --for bound=1ms --timeout 0s");
    assert_eq!(late, 1);
    assert!(why.contains("timed out after 0s: 0 of 1 node; not yet n1 (ErrorBound)"), "{why}");
    assert_eq!(code("sources n9").0, 1);
    assert_eq!(code("wait").0, 2);
    let (wrong, why) = code("status --context other");
    assert!(wrong == 1 && why.contains("get-contexts"), "{why}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = fs::read_to_string(cluster.folder.join("config")).unwrap();
    let begin = config.find("http://").unwrap();
    let end = begin + config[begin..].find('"').unwrap();
    fs::write(
        cluster.folder.join("nobody"),
        config.replace(&config[begin..end], &format!("http://{nobody}")),
    )
    .unwrap();
    let (gone, why) = code("status --kubeconfig nobody");
    assert!(gone == 1 && why.contains("cannot read timesyncpolicies"), "{why}");
}

#[test]
fn proxies_of_the_kubeconfig_and_of_the_environment_are_used() {
    let cluster = Cluster::of_fault("proxy", "healthy");
    let config = fs::read_to_string(cluster.folder.join("config")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    let (proxy, asked) = proxy_to(server.strip_prefix("http://").unwrap());
    // No resolver knows this name, so only a proxy leads there.
    config["clusters"][0]["cluster"]["server"] = json!("http://api.cluster.invalid:6443");
    fs::write(cluster.folder.join("env"), config.to_string()).unwrap();
    let nodes = |config: &str, variable: &str, value: &str| {
        let mut command = cluster.command(&format!("nodes --kubeconfig {config}"));
        let output = command.env(variable, value).output().unwrap();
        assert!(text(&output.stdout).contains("Synchronized"), "{config}: {}", text(&output.stderr));
        asked.lock().unwrap().drain(..).collect::<Vec<_>>()
    };
    let expected = ["api.cluster.invalid:6443"];
    assert_eq!(nodes("env", "HTTP_PROXY", &proxy), expected);
    for scheme in ["http", "socks5", "socks5h"] {
        config["clusters"][0]["cluster"]["proxy-url"] = json!(format!("{scheme}://{proxy}"));
        fs::write(cluster.folder.join(scheme), config.to_string()).unwrap();
        // NO_PROXY is about proxies of the environment.
        assert_eq!(nodes(scheme, "X_UNUSED", ""), expected, "{scheme}");
        assert_eq!(nodes(scheme, "NO_PROXY", "cluster.invalid"), expected, "{scheme}");
    }
    let output = cluster.command("nodes").env("HTTPS_PROXY", "http://[").output().unwrap();
    assert!(text(&output.stderr).contains("the proxy cannot be used"), "{}", text(&output.stderr));
}

#[test]
fn a_node_that_is_asked_for_and_does_not_exist_is_an_error() {
    let cluster = Cluster::of_fault("no-such-node", "healthy");
    for (words, shown) in [("nodes n9", ""), ("nodes n1 n9", "n1 "), ("nodes n9 -o json", "")] {
        let output = cluster.run(words);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(
            text(&output.stderr).contains("NotFound: there is no NodeClock n9"),
            "{}",
            text(&output.stderr)
        );
        let told = text(&output.stdout);
        assert!(told.contains(shown) && told.is_empty() == shown.is_empty(), "{words}: {told}");
    }
    assert_eq!(cluster.told("nodes n1 --state Holdover"), "No nodes found.\n");
}

#[test]
fn remarks_that_nobody_reads_are_no_panic() {
    let cluster = Cluster::of_fault("remarks", "error-bound");
    fs::write(cluster.folder.join("ntp.conf"), "server 192.0.2.10 iburst\nbroadcast 192.0.2.255\n").unwrap();
    for (words, code) in
        [("wait --for bound=1ms --timeout 1s", 1), ("convert ntp.conf", 3), ("status --context x", 1)]
    {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = cluster.command(words).stderr(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{words}");
    }
}

#[test]
fn the_environment_sets_width_and_colours() {
    let cluster = Cluster::of_fault("environment", "healthy");
    let behind = Cluster::of_fault("columns", "profile-missing");
    let piped = |columns: &str| {
        let output = behind.command("rollout status").env("COLUMNS", columns).output().unwrap();
        text(&output.stdout)
    };
    let whole = behind.told("rollout status");
    assert_eq!(piped(""), whole, "a pipe cuts nothing");
    let last = whole.lines().last().unwrap().chars().count();
    let narrow = piped(&(last - 1).to_string());
    assert!(
        !whole.contains("...") && narrow.lines().last().is_some_and(|line| line.ends_with("...")),
        "{narrow}"
    );
    let on_terminal = |name: &str, value: &str| {
        let mut terminal = Terminal::open();
        let mut command = cluster.command("nodes");
        let mut child = terminal.start(command.env(name, value));
        let shown = terminal.read_until("Synchronized");
        assert!(child.wait().unwrap().success());
        shown
    };
    assert!(on_terminal("TERM", "xterm").contains("\x1b[32mSynchronized"));
    assert!(on_terminal("NO_COLOR", "").contains("\x1b[32mSynchronized"));
    assert!(!on_terminal("NO_COLOR", "1").contains('\x1b'));
    assert!(!on_terminal("TERM", "dumb").contains('\x1b'));
}

#[test]
fn the_key_q_ends_top_while_a_request_hangs() {
    let cluster = Cluster::of_fault("key", "healthy");
    let mut terminal = Terminal::open();
    let mut top = terminal.start(&mut cluster.command("top --interval 1s"));
    assert!(terminal.read_until("Synchronized").contains("\x1b[?1049h"));
    cluster.server.stalled.store(true, Ordering::SeqCst);
    let before = cluster.server.asked.lock().unwrap().len();
    await_true(Duration::from_secs(20), || cluster.server.asked.lock().unwrap().len() > before);
    terminal.ours.write_all(b"q").unwrap();
    await_true(Duration::from_secs(10), || top.try_wait().unwrap().is_some());
    assert_eq!(top.wait().unwrap().code(), Some(0));
    // The first screen is back.
    terminal.read_until("\x1b[?1049l");
}

#[test]
fn a_cluster_without_timesync_and_a_user_without_rights_are_told() {
    let missing = json!({"kind": "Status", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404});
    let path = "/apis/timesync.dev/v1alpha1/timesyncpolicies".to_owned();
    let cluster = Cluster::new("missing", BTreeMap::from([(path, (404, missing))]));
    let output = cluster.run("status");
    assert!(text(&output.stderr).contains("timesync is not installed"), "{}", text(&output.stderr));
    let cluster = Cluster::new("forbidden", BTreeMap::new());
    let output = cluster.run("status");
    assert!(text(&output.stderr).contains("clusterrole=timesync-view"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_bundle_reads_no_secret_and_says_what_is_missing() {
    let cluster = Cluster::of_fault("bundle", "conflict");
    let output = cluster.run("bundle --file b.tar.gz");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "b.tar.gz\n");
    assert!(
        text(&output.stderr).contains("not in the archive: nodes (not permitted)"),
        "{}",
        text(&output.stderr)
    );
    let files = cluster.files("b.tar.gz");
    assert!(files["why/n1.txt"].contains("chronyd (pid 312)"), "{files:?}");
    assert!(
        files["nodeclocks.yaml"].contains("kind: NodeClock") && files["about.txt"].contains("agents' pods")
    );
    let status = files["status.txt"].split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        status.contains("Not read, so something may be missing: nodes (not permitted), pods"),
        "{status}"
    );
    assert!(!status.contains("0 pods") && !files.contains_key("nodes.yaml"), "{files:?}");
    let again = cluster.run("bundle --file b.tar.gz");
    assert!(!again.status.success() && text(&again.stderr).contains("--force"), "{}", text(&again.stderr));
    assert!(cluster.run("bundle --file b.tar.gz --force").status.success());
    let asked = cluster.server.asked.lock().unwrap().clone();
    assert!(asked.len() > 8 && !asked.iter().any(|line| line.contains("secret")), "{asked:?}");
}

#[test]
fn each_file_of_a_bundle_is_there_once() {
    let cluster = Cluster::of_fault("bundle-default", "healthy");
    let event = |name: &str| {
        let metadata = json!({"name": name, "namespace": "default"});
        json!({"metadata": metadata, "involvedObject": {"kind": "Pod", "name": name}})
    };
    let events = json!({"metadata": {}, "items": [event("timesync-agent-x7k2p"), event("database-0")]});
    cluster.answer("/api/v1/namespaces/default/events", events);
    assert!(cluster.run("bundle -n default --file b.tar.gz").status.success());
    let file = fs::File::open(cluster.folder.join("b.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    assert_eq!(names.filter(|name| name.ends_with("events-default.yaml")).count(), 1);
    let events = &cluster.files("b.tar.gz")["events-default.yaml"];
    assert!(events.contains("timesync-agent-x7k2p") && !events.contains("database-0"), "{events}");
}

#[test]
fn an_explanation_in_a_bundle_takes_nothing_unread_for_missing() {
    let cluster = Cluster::of_fault("bundle-unread", "no-agent");
    assert!(cluster.run("bundle --file b.tar.gz").status.success());
    let files = cluster.files("b.tar.gz");
    let why = &files["why/n1.txt"];
    assert!(!why.contains("No pod of the agent is on this node"), "{why}");
    assert!(
        why.contains("missing, does not run, or may not run") && why.contains("pods (not permitted)"),
        "{why}"
    );
}

#[test]
fn a_rollout_is_changed_only_by_who_may_write() {
    let cluster = Cluster::of_fault("rollout", "rollout-paused");
    assert!(cluster.told("rollout status").contains("Paused"));
    assert_eq!(cluster.told("rollout pause default"), "default: paused already\n");
    let stopped = cluster.run("wait --for rollout");
    assert!(text(&stopped.stderr).contains("default: Paused: "), "{}", text(&stopped.stderr));
    let patches = || {
        cluster
            .server
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.starts_with("PATCH "))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(patches(), Vec::<String>::new());
    let refused = cluster.run("rollout resume default");
    assert!(text(&refused.stderr).contains("<release>-edit"), "{}", text(&refused.stderr));
    assert!(
        patches()[0].starts_with("PATCH /apis/timesync.dev/v1alpha1/timesyncpolicies/default?"),
        "{:?}",
        patches()
    );
}

#[test]
fn a_file_is_converted_without_a_cluster() {
    let cluster = Cluster::new("convert", BTreeMap::new());
    fs::write(cluster.folder.join("ntp.conf"), "server 192.0.2.10 iburst\nbroadcast 192.0.2.255\n").unwrap();
    let output = cluster.run("convert ntp.conf --name lan --kubeconfig /nowhere");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("kind: TimeSyncPolicy") && text(&output.stdout).contains("name: lan")
    );
    assert!(text(&output.stderr).contains("ntp.conf:2: left out"), "{}", text(&output.stderr));
    assert!(cluster.server.asked.lock().unwrap().is_empty());
}

#[test]
fn the_completion_program_calls_this_one() {
    let cluster = Cluster::of_fault("completion", "healthy");
    let script = cluster.told("completion");
    let committed =
        fs::read_to_string(format!("{}/kubectl_complete-timesync", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(script, committed);
    let program = PathBuf::from(env!("CARGO_BIN_EXE_kubectl-timesync"));
    let path = format!("{}:{}", program.parent().unwrap().display(), env::var("PATH").unwrap());
    let complete = |words: &[&str]| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&script).arg("kubectl_complete-timesync").args(words);
        let output =
            shell.env("PATH", &path).env("KUBECONFIG", cluster.folder.join("config")).output().unwrap();
        text(&output.stdout)
    };
    assert_eq!(complete(&["sources", ""]), "n1\n:4\n");
    assert!(complete(&["why", "--out"]).starts_with("--output\n"));
    assert!(complete(&[""]).starts_with("status\nnodes\n"));
}

#[test]
fn a_completion_asks_the_cluster_of_the_line() {
    let cluster = Cluster::of_fault("completion-flags", "healthy");
    let there = cluster.folder.join("config").display().to_string();
    let completed = |words: &[&str]| {
        let mut command = cluster.command("__complete --");
        text(&command.env("KUBECONFIG", "/nowhere").args(words).output().unwrap().stdout)
    };
    assert_eq!(completed(&["why", ""]), ":4\n");
    assert_eq!(completed(&["--kubeconfig", &there, "why", ""]), "n1\n:4\n");
    assert_eq!(completed(&["bundle", &format!("--kubeconfig={there}"), "--logs-of", ""]), "n1\n:4\n");
    assert_eq!(completed(&["--kubeconfig", &there, "--context", "other", "why", ""]), ":4\n");
    let asked = cluster.server.asked.lock().unwrap().clone();
    assert!(asked.len() == 2 && asked.iter().all(|line| line.ends_with(" (metadata)")), "{asked:?}");
}

#[test]
fn ages_are_by_the_api_servers_clock() {
    let check = |name: &str, behind: SignedDuration, expected: Option<&str>| {
        let there = Timestamp::now() - behind;
        let cluster = Cluster::of_fault_at(name, "healthy", there);
        *cluster.server.behind.lock().unwrap() = Some(behind);
        let status = cluster.told("status");
        assert!(status.contains("(1 Synchronized)"), "{status}");
        match expected {
            Some(expected) => assert!(status.contains(expected), "{status}"),
            None => assert!(!status.contains("Notice"), "{status}"),
        }
    };
    // By this machine's clock the NodeClock would be too old.
    check(
        "clock-ahead",
        SignedDuration::from_mins(10),
        Some("The clock of this machine is 10m ahead of the API"),
    );
    check("clock-behind", SignedDuration::from_mins(-20), Some("m behind the API server's"));
    check("clock-right", SignedDuration::ZERO, None);
}

#[test]
fn lists_are_read_page_by_page() {
    let cluster = Cluster::of_fault("pages", "healthy");
    let path = "/apis/timesync.dev/v1alpha1/nodeclocks";
    let mut first = cluster.server.answers.lock().unwrap()[path].1.clone();
    let mut second = first.clone();
    first["metadata"]["continue"] = json!("next");
    second["items"][0]["metadata"]["name"] = json!("n2");
    cluster.answer(path, first);
    cluster.answer(&format!("{path}?continue=next"), second);
    let nodes = cluster.told("nodes");
    assert_eq!(
        nodes.lines().skip(1).filter_map(|line| line.split(' ').next()).collect::<Vec<_>>(),
        ["n1", "n2"]
    );
    assert_eq!(cluster.told("__complete -- why n"), "n1\nn2\n:4\n");
    let asked = cluster.server.asked.lock().unwrap().clone();
    let pages = asked.iter().filter(|line| line.contains("/nodeclocks?"));
    let pages: Vec<_> = pages.map(|line| line.contains("continue=next")).collect();
    assert_eq!(pages, [false, true, false, true], "{asked:?}");
    assert!(asked.iter().all(|line| line.contains("limit=500")), "{asked:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let cluster = Cluster::of_fault("pipe", "healthy");
    let program = env!("CARGO_BIN_EXE_kubectl-timesync");
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(format!("{program} top --interval 1s | head -n 1; echo ${{PIPESTATUS[0]}}"));
    let output = shell.env("KUBECONFIG", cluster.folder.join("config")).output().unwrap();
    let told = text(&output.stdout);
    assert!(told.lines().next().is_some_and(|line| line.ends_with("1 of 1 node synchronised")), "{told}");
    assert_eq!(told.lines().last(), Some("0"), "{}", text(&output.stderr));
}

#[test]
fn top_ends_at_once_while_a_request_hangs() {
    for signal in ["TERM", "INT"] {
        let cluster = Cluster::of_fault(&format!("hangs-{signal}"), "healthy");
        let mut top = cluster.command("top --interval 1s").stdout(Stdio::piped()).spawn().unwrap();
        let mut pictures = BufReader::new(top.stdout.take().unwrap());
        pictures.read_line(&mut String::new()).unwrap();
        cluster.server.stalled.store(true, Ordering::SeqCst);
        let before = cluster.server.asked.lock().unwrap().len();
        await_true(Duration::from_secs(20), || cluster.server.asked.lock().unwrap().len() > before);
        let kill = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", top.id())).status().unwrap();
        assert!(kill.success());
        // A request would hang for 30 s.
        await_true(Duration::from_secs(10), || top.try_wait().unwrap().is_some());
        assert_eq!(top.wait().unwrap().code(), Some(0), "{signal}");
    }
}

/// Waits until it is so, and panics if it takes too long.
fn await_true(most: Duration, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < most, "not within {most:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
