//! Names that resolve, do not, or have addresses that are silent: the agent beside a DNS server of the test's own.
use std::{
    fs,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use contract::{Report, SourceReport, SourceState};

use crate::{
    authority::{Authority, VALID},
    bench::{
        Agent, Chronyd, Folder, free_udp_port,
        namespace::{Neighbour, alone, ip},
        wait_for,
    },
    dns::Dns,
};

/// An agent's file with these upstreams, each a name and more lines.
fn file(folder: &Folder, upstreams: &[(String, String)]) -> String {
    let keys = folder.path().join("keys");
    fs::create_dir_all(&keys).unwrap();
    let upstreams: Vec<_> = upstreams
        .iter()
        .enumerate()
        .map(|(n, (server, lines))| {
            format!(
                "[[profile.upstreams]]\nname = \"u{n}\"\nserver = \"{server}\"\niburst = true\nminPoll = 0\n\
                 maxPoll = 1\n{lines}\n"
            )
        })
        .collect();
    format!(
        "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\nkeysDirectory = \"{}\"\n\
         [profile]\nmode = \"Observe\"\n[profile.serve]\nenabled = false\n{}",
        keys.display(),
        upstreams.concat()
    )
}

/// So many names of zone `zone`, about which DNS is silent.
fn dead(zone: &str, count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("n{n}.{zone}.test"), String::new())).collect()
}

/// The last upstream's source.
fn last(report: &Report) -> Option<&SourceReport> {
    report.sources.last()
}

#[test]
fn dead_names_delay_no_good_one_and_cost_few_packets() {
    alone(|| {
        let folder = Folder::new();
        let dns = Dns::start(&folder);
        dns.knows("good.test", &["127.0.0.1"]);
        let agent = Agent::start(&folder, &file(&folder, &dead("first", 16)));
        let begin = Instant::now();
        wait_for("all names asked for", || dns.asked().len() == 16);
        assert_eq!(last(&agent.report()).map(|source| source.state), Some(SourceState::Unresolved));
        // glibc asks for both families, twice, 5 s apart; and the agent again after 2, 4, 8 ... s.
        thread::sleep(Duration::from_secs(30).saturating_sub(begin.elapsed()));
        let asked = dns.asked();
        assert!(asked.values().all(|count| (4..=16).contains(count)), "{asked:?}");
        assert!(agent.threads() <= 16 + 8, "{}", agent.threads());

        // Ten other profiles, and each has 16 dead names.
        for change in 0..10 {
            agent.rewrite(&file(&folder, &dead(&format!("change{change}"), 16)));
            wait_for("the change taken", || dns.asked().contains_key(&format!("n15.change{change}.test")));
        }
        let mut upstreams = dead("last", 15);
        upstreams.push(("good.test".to_owned(), String::new()));
        agent.rewrite(&file(&folder, &upstreams));
        let begin = Instant::now();
        wait_for("the good name resolved", || {
            last(&agent.report()).is_some_and(|source| source.address.as_deref() == Some("127.0.0.1"))
        });
        // Half a second on an idle machine. Behind a dead name it would take 10 s and more.
        assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
        assert_eq!(dns.asked().get("good.test"), Some(&2), "both families, once");
    });
}

#[test]
fn another_resolv_conf_counts_at_the_next_try() {
    alone(|| {
        let folder = Folder::new();
        let dns = Dns::start(&folder);
        dns.knows("good.test", &["127.0.0.1"]);
        // Nobody listens there.
        dns.configure("nameserver 127.0.0.9\n");
        let agent = Agent::start(&folder, &file(&folder, &[("good.test".to_owned(), String::new())]));
        let told =
            |words: &str| last(&agent.report()).is_some_and(|source| source.message.starts_with(words));
        wait_for("no answer told", || told("The name good.test does not resolve: "));
        dns.configure("nameserver 127.0.0.1\n");
        wait_for("resolved", || {
            last(&agent.report()).is_some_and(|source| source.address.as_deref() == Some("127.0.0.1"))
        });
    });
}

/// A host next door that forwards nothing: what is sent to 2001:db8:1::/64 vanishes there. It is there as long as this.
fn hole() -> Neighbour {
    let neighbour = Neighbour::new("hole", "2001:db8::1/64", "2001:db8::2/64");
    ip("route add 2001:db8:1::/64 via 2001:db8::2");
    neighbour
}

#[test]
fn silent_addresses_hold_up_neither_the_exchange_nor_the_server_that_it_names() {
    alone(|| {
        let folder = Folder::new();
        let dns = Dns::start(&folder);
        let _hole = hole();
        dns.knows("ke.test", &["2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::13", "127.0.0.1"]);
        dns.knows("time.test", &["2001:db8:1::21", "2001:db8:1::22", "127.0.0.1"]);
        let authority = Authority::new(&folder, "authority");
        let certificate = authority.certificate("ke.test", VALID);
        let port = free_udp_port();
        let lines = format!(
            "ntsservercert {}\nntsserverkey {}\nntsport {port}\nntsntpserver time.test\n",
            certificate.chain.display(),
            certificate.key.display()
        );
        let _server = Chronyd::start_with(&folder, 3, &lines);
        wait_for("the key exchange", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        // Another name that DNS is silent about is no obstacle to the exchange.
        let mut upstreams = dead("silent", 1);
        upstreams.push(("ke.test".to_owned(), format!("nts = {{ ca = \"ca.pem\", port = {port} }}")));
        let text = file(&folder, &upstreams);
        fs::copy(authority.root(), folder.path().join("keys/ca.pem")).unwrap();
        let agent = Agent::start(&folder, &text);
        let begin = Instant::now();
        wait_for("answers that are proven", || {
            last(&agent.report()).is_some_and(|source| source.received > 0)
        });
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
        assert_eq!(last(&agent.report()).unwrap().address.as_deref(), Some("127.0.0.1"));
        let log = fs::read_to_string(folder.path().join("agent.log")).unwrap();
        assert_eq!(log.matches("Keys exchanged").count(), 1, "{log}");
        assert!(!log.contains("No keys exchanged"), "{log}");
    });
}
