//! Machines without upstreams, each a namespace with an address of its own: who serves, who follows whom, also beside
//! chronyd. All read one clock that nobody may move, so what they say is looked at, and not their clocks.
use std::{
    fs,
    process::{Command, Stdio},
};

use contract::{Reason, Report};

use crate::bench::{
    Agent, Chronyd, Folder, Process,
    namespace::{Neighbour, alone},
    run, wait_for,
};

/// A machine next door: its number is in its address.
struct Machine {
    number: u8,
    neighbour: Neighbour,
    folder: Folder,
}

/// What /status asks for from afar.
const TOKEN: &str = "a long and secret word";

impl Machine {
    fn new(number: u8) -> Self {
        let (ours, its) = (format!("10.0.{number}.1/24"), format!("10.0.{number}.2/24"));
        let neighbour = Neighbour::new(&format!("to{number}"), &ours, &its);
        let route = format!("route add default via 10.0.{number}.1");
        let done = neighbour.command("ip").args(route.split(' ')).status().unwrap();
        assert!(done.success(), "{route}");
        Self { number, neighbour, folder: Folder::new() }
    }

    /// An agent on it, one of the orphans of these numbers.
    fn agent(&self, members: &[u8]) -> Agent {
        fs::write(self.folder.path().join("token"), TOKEN).unwrap();
        let http = format!("{}:9817", address(self.number));
        Agent::start_next_door(&self.neighbour, &self.folder, &self.file(members, ""), &http)
    }

    fn file(&self, members: &[u8], more: &str) -> String {
        let peer = |number: &u8| upstream(&format!("m{number}"), "peer", &address(*number), 123);
        format!(
            "[agent]\nstateDirectory = \"STATE\"\nhttpAddress = \"HTTP\"\ntokenFile = \"{}\"\n\
             [profile]\nmode = \"Observe\"\n{}{more}\
             [profile.stratum]\nlocal = 10\norphan = true\nactivateAfter = \"3s\"\n\
             [[profile.restrict]]\nsource = \"default\"\n",
            self.folder.path().join("token").display(),
            members.iter().map(peer).collect::<String>(),
        )
    }

    /// Debian's chronyd on it, one of the orphans of these numbers.
    fn chronyd(&self, members: &[u8]) -> Process {
        let server = |number: &u8| format!("server {} iburst minpoll 0 maxpoll 0\n", address(*number));
        let others: Vec<u8> = members.iter().copied().filter(|number| *number != self.number).collect();
        let text = format!(
            "cmdport 0\nallow all\nlocal stratum 10 orphan\npidfile {}\n{}",
            self.folder.path().join("chronyd.pid").display(),
            others.iter().map(server).collect::<String>()
        );
        let file = self.folder.path().join("chrony.conf");
        fs::write(&file, text).unwrap();
        let mut command: Command = self.neighbour.command("/usr/sbin/chronyd");
        let command = command.args(["-x", "-U", "-u", "root", "-d", "-f"]).arg(file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Process(child.expect("these tests need Debian's package chrony"))
    }
}

fn address(number: u8) -> String {
    format!("10.0.{number}.2")
}

fn upstream(name: &str, kind: &str, host: &str, port: u16) -> String {
    format!(
        "[[profile.upstreams]]\nname = \"{name}\"\n{kind} = \"{host}\"\nport = {port}\niburst = true\n\
         minPoll = 0\nmaxPoll = 0\n"
    )
}

fn report(agent: &Agent) -> Option<Report> {
    let (code, body) = agent.get("/status", Some(TOKEN));
    (code == 200).then(|| serde_json::from_str(&body).unwrap())
}

/// Waits until an agent says this of itself.
fn wait_until(what: &str, agent: &Agent, reason: Reason, stratum: u8, reference: Option<&str>) {
    let is_so = |report: Report| {
        let clock = report.clock;
        (clock.reason, clock.stratum, clock.reference.as_deref()) == (reason, stratum, reference)
    };
    wait_for(what, || report(agent).is_some_and(is_so));
}

/// Waits until a machine serves this stratum and reference, as anybody is told who asks.
fn wait_served(number: u8, stratum: u8, reference: &str) {
    let wanted = format!("stratum {stratum}, refid {reference}");
    wait_for(&wanted, || run(&["query", &address(number)]).1.contains(&wanted));
}

fn machines<const N: usize>(numbers: [u8; N]) -> [Machine; N] {
    let machines = numbers.map(Machine::new);
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    machines
}

#[test]
fn three_orphans_elect_one_and_another_when_it_dies() {
    alone(|| {
        let numbers = [1, 2, 3];
        let machines = machines(numbers);
        let [first, second, third] = [0, 1, 2].map(|index| machines[index].agent(&numbers));
        wait_until("a parent", &first, Reason::LocalReference, 10, None);
        wait_until("the second follows", &second, Reason::LocalReference, 11, Some("m1"));
        wait_until("the third follows", &third, Reason::LocalReference, 11, Some("m1"));
        wait_served(1, 10, "127.127.1.1");
        wait_served(2, 11, "10.0.1.2");
        let clock = report(&first).unwrap().clock;
        assert!(clock.synchronized && clock.message.contains("serves its own clock"), "{clock:?}");

        drop(first);
        wait_until("another parent", &second, Reason::LocalReference, 10, None);
        wait_until("the third follows it", &third, Reason::LocalReference, 11, Some("m2"));
        wait_served(2, 10, "127.127.1.1");

        let chronyd = Chronyd::start_with(&machines[0].folder, 3, "bindaddress 10.0.1.1\nallow 10.0.0.0/8\n");
        let more = upstream("up", "server", "10.0.1.1", chronyd.port);
        second.rewrite(&machines[1].file(&numbers, &more));
        wait_until("the upstream wins", &second, Reason::Synchronized, 4, Some("up"));
        wait_until("all follow it", &third, Reason::Synchronized, 5, Some("m2"));
    });
}

#[test]
fn orphans_of_both_kinds_elect_one() {
    alone(|| {
        let numbers = [1, 2, 3];
        let machines = machines(numbers);
        let smallest = machines[0].chronyd(&numbers);
        let _largest = machines[2].chronyd(&numbers);
        let agent = machines[1].agent(&numbers);
        wait_until("it follows chronyd", &agent, Reason::LocalReference, 11, Some("m1"));
        wait_served(1, 10, "127.127.1.1");
        wait_served(3, 11, "10.0.1.2");
        drop(smallest);
        wait_until("it serves", &agent, Reason::LocalReference, 10, None);
        wait_served(2, 10, "127.127.1.1");
        wait_served(3, 11, "10.0.2.2");
    });
}
