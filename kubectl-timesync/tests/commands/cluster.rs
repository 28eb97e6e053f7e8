//! A server that answers as an API server does, and a folder with a kubeconfig for it.
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

/// A status and a body by path.
pub(crate) type Answers = BTreeMap<String, (u16, Value)>;

/// A server, and a folder with a kubeconfig for it.
pub(crate) struct Cluster {
    pub(crate) folder: PathBuf,
    pub(crate) server: Arc<Server>,
}

/// What the server knows, and what it was asked.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) answers: Mutex<Answers>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// How far its clock is behind this machine's, if its answers have a date.
    pub(crate) behind: Mutex<Option<SignedDuration>>,
    /// Set to let requests arrive, and answer none of them.
    pub(crate) stalled: AtomicBool,
}

impl Cluster {
    /// Answers with these objects by path; any other path is forbidden.
    pub(crate) fn new(name: &str, answers: Answers) -> Self {
        let folder = env::temp_dir().join(format!("kubectl-timesync-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": address}}],
            "users": [{"name": "test", "user": {"token": "t"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        fs::write(folder.join("config"), config.to_string()).unwrap();
        let server = Arc::new(Server { answers: Mutex::new(answers), ..Server::default() });
        let known = Arc::clone(&server);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let known = Arc::clone(&known);
                thread::spawn(move || known.serve(stream));
            }
        });
        Self { folder, server }
    }

    /// A viewer's view of a prepared fault, whose times are moved to now.
    pub(crate) fn of_fault(name: &str, case: &str) -> Self {
        Self::of_fault_at(name, case, Timestamp::now())
    }

    /// The same, with times moved to this one.
    pub(crate) fn of_fault_at(name: &str, case: &str, now: Timestamp) -> Self {
        let text =
            fs::read_to_string(format!("{}/tests/why/{case}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let text = text.replace("2026-11-30T11:59:30Z", &now.to_string());
        let objects =
            serde_norway::Deserializer::from_str(&text).map(|each| Value::deserialize(each).unwrap());
        let objects: Vec<_> = objects.collect();
        let list = |kind: &str| {
            let items: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
            (
                200,
                json!({"kind": format!("{kind}List"), "apiVersion": "timesync.dev/v1alpha1", "metadata": {}, "items": items}),
            )
        };
        let answers = BTreeMap::from([
            ("/apis/timesync.dev/v1alpha1/timesyncpolicies".to_owned(), list("TimeSyncPolicy")),
            ("/apis/timesync.dev/v1alpha1/nodeclocks".to_owned(), list("NodeClock")),
        ]);
        Self::new(name, answers)
    }

    /// Answers a path with this object from now on.
    pub(crate) fn answer(&self, path: &str, body: Value) {
        self.server.answers.lock().unwrap().insert(path.to_owned(), (200, body));
    }

    /// The program with these words, in an environment that says nothing else.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-timesync"));
        command
            .args(words.split_whitespace())
            .current_dir(&self.folder)
            .env_clear()
            .env("KUBECONFIG", self.folder.join("config"));
        command
    }

    pub(crate) fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// The files of an archive, without the folder in which they are.
    pub(crate) fn files(&self, archive: &str) -> BTreeMap<String, String> {
        let file = fs::File::open(self.folder.join(archive)).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(file)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().iter().skip(1).collect::<PathBuf>().display().to_string();
            let mut body = String::new();
            entry.read_to_string(&mut body).unwrap();
            files.insert(name, body);
        }
        files
    }

    /// Standard output of a command that succeeds.
    pub(crate) fn told(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

impl Server {
    /// Answers each request of a connection.
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((request, target)) = request(&mut reader) {
            self.asked.lock().unwrap().push(request);
            if self.stalled.load(Ordering::SeqCst) {
                continue;
            }
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            // A further page has a key of its own.
            let page = query.split('&').find(|each| each.starts_with("continue="));
            let key = page.map_or(path.to_owned(), |page| format!("{path}?{page}"));
            let forbidden = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden",
                "message": format!("{path} is forbidden"), "code": 403,
            });
            let known = self.answers.lock().unwrap().get(&key).cloned();
            let (code, body) = known.unwrap_or((403, forbidden));
            let body = body.to_string();
            let date = self.behind.lock().unwrap().map_or(String::new(), |behind| {
                let date = Timestamp::now() - behind;
                format!("Date: {}\r\n", date.strftime("%a, %d %b %Y %H:%M:%S GMT"))
            });
            let head = format!(
                "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n{date}Content-Length: {}\r\n\r\n",
                body.len()
            );
            if stream.write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The first line of a request, marked if it asks for metadata only, and its target; none if there is no request any
/// more.
fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return None;
    }
    let mut only = "";
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap_or(0) == 0 || header.trim().is_empty() {
            break;
        }
        if header.contains("as=PartialObjectMetadataList") {
            only = " (metadata)";
        }
    }
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    Some((format!("{}{only}", first.trim()), target))
}
