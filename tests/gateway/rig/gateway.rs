//! A gateway process with a configuration of its own, in a directory of its own.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use serde_json::Value;

use super::{client::Client, token::SECRET, wait::until};

/// What a gateway is started with. The parts that most tests do not care about are filled in.
pub(crate) struct Setup {
    shards: usize,
    driver: &'static str,
    /// Lines for `[listen]`, `[bounds]`, `[timeouts]` and `[log]`.
    sections: Vec<(&'static str, String)>,
    body: String,
    /// Further files in its directory.
    files: Vec<(&'static str, Vec<u8>)>,
    shell: Option<&'static str>,
}

impl Setup {
    /// One shard, ports of the system's choice, the log in `access.log`, nothing behind it.
    pub(crate) fn new() -> Self {
        Self {
            shards: 1,
            driver: "auto",
            sections: Vec::new(),
            body: String::new(),
            files: Vec::new(),
            shell: None,
        }
    }

    pub(crate) fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    pub(crate) fn driver(mut self, driver: &'static str) -> Self {
        self.driver = driver;
        self
    }

    /// A line for a section that every configuration has: `set("timeouts", "head = \"1s\"")`.
    pub(crate) fn set(mut self, section: &'static str, line: &str) -> Self {
        self.sections.push((section, line.to_owned()));
        self
    }

    /// A `[[cluster]]` with these endpoints and further lines.
    pub(crate) fn cluster(mut self, name: &str, endpoints: &[SocketAddr], lines: &str) -> Self {
        let endpoints: Vec<String> =
            endpoints.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
        let _ = write!(
            self.body,
            "\n[[cluster]]\nname = \"{name}\"\nendpoints = [{}]\n{lines}\n",
            endpoints.join(", ")
        );
        self
    }

    /// A `[[route]]` named `name` for `path`, with further lines.
    pub(crate) fn route(mut self, name: &str, path: &str, cluster: &str, lines: &str) -> Self {
        let _ = write!(
            self.body,
            "\n[[route]]\nname = \"{name}\"\npath = \"{path}\"\ncluster = \"{cluster}\"\n{lines}\n"
        );
        self
    }

    /// The `[[jwt]]` named `partners` with the key `k1` (HS256, [`SECRET`]) and further lines.
    pub(crate) fn keys(mut self, lines: &str) -> Self {
        let _ = write!(
            self.body,
            "\n[[jwt]]\nname = \"partners\"\n\
             keys = [{{ kid = \"k1\", alg = \"HS256\", secret_file = \"k1.key\" }}]\n{lines}\n"
        );
        self
    }

    /// Any other text.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.body.push_str(text);
        self
    }

    /// A file in its directory, besides `k1.key`.
    pub(crate) fn file(mut self, name: &'static str, content: &[u8]) -> Self {
        self.files.push((name, content.to_vec()));
        self
    }

    /// Starts it by this line of shell, in which `$TOLLGATE` is the binary and `$CONFIG` the whole path of
    /// the configuration. The line ends in an `exec`, so that signals arrive.
    pub(crate) fn shell(mut self, line: &'static str) -> Self {
        self.shell = Some(line);
        self
    }

    /// One cluster `main` with one endpoint, one public route `all` for everything.
    pub(crate) fn proxy(endpoint: SocketAddr) -> Self {
        Self::new().cluster("main", &[endpoint], "").route("all", "/", "main", "")
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for section in ["listen", "shards", "bounds", "timeouts", "log"] {
            let _ = writeln!(text, "[{section}]");
            let given = |key: &str| {
                self.sections.iter().any(|(named, line)| *named == section && line.starts_with(key))
            };
            match section {
                "listen" => {
                    if !given("address") {
                        text.push_str("address = [\"127.0.0.1:0\"]\n");
                    }
                    if !given("admin") {
                        text.push_str("admin = \"127.0.0.1:0\"\n");
                    }
                }
                "shards" => {
                    let _ = writeln!(text, "count = {}\ndriver = \"{}\"", self.shards, self.driver);
                    if !given("cpus") {
                        text.push_str("cpus = \"none\"\n");
                    }
                }
                "bounds" if !given("connections") => text.push_str("connections = 2000\n"),
                _ => {}
            }
            for (_, line) in self.sections.iter().filter(|(named, _)| *named == section) {
                let _ = writeln!(text, "{line}");
            }
        }
        text.push_str(&self.body);
        text
    }

    /// Writes its files and does not start it.
    pub(crate) fn write(&self) -> Directory {
        let directory = Directory::new();
        self.write_into(directory.path());
        directory
    }

    /// Writes its files into `directory`, in place of those of another one.
    pub(crate) fn write_into(&self, directory: &Path) {
        fs::write(directory.join("tollgate.toml"), self.render()).unwrap();
        fs::write(directory.join("k1.key"), SECRET).unwrap();
        for (name, content) in &self.files {
            fs::write(directory.join(name), content).unwrap();
        }
    }

    /// Starts it and waits until it accepts.
    pub(crate) fn start(self) -> Gateway {
        Gateway::start(self.write(), self.shell)
    }

    /// Starts it in `directory`, which somebody has written.
    pub(crate) fn start_in(self, directory: Directory) -> Gateway {
        Gateway::start(directory, self.shell)
    }
}

/// A directory that goes away with its owner.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tollgate-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running gateway; killed on drop.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Its admin address, if that is no unix socket.
    pub(crate) admin: SocketAddr,
    directory: Directory,
    said: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn start(directory: Directory, shell: Option<&str>) -> Self {
        let binary = env!("CARGO_BIN_EXE_tollgate");
        let mut command = Command::new(if shell.is_some() { "sh" } else { binary });
        match shell {
            Some(line) => command.args(["-c", line]),
            None => command.args(["run", "--config", "tollgate.toml"]),
        };
        let mut child = command
            .current_dir(directory.path())
            .env("TOLLGATE", binary)
            .env("CONFIG", directory.path().join("tollgate.toml"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(directory.path().join("stdout")).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        let mut gateway = Self {
            child,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            directory,
            said,
        };
        until("the gateway to listen", || {
            let ended = gateway.child.try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended with {ended:?}:\n{}", gateway.said().join("\n"));
            gateway.said().iter().any(|line| line.contains("admin on "))
        });
        gateway.address = gateway.address_after("listening on ").parse().unwrap();
        // A unix socket is none; who uses one knows where it is.
        if let Ok(admin) = gateway.address_after("admin on ").parse() {
            gateway.admin = admin;
        }
        gateway
    }

    fn address_after(&self, words: &str) -> String {
        let said = self.said();
        let line = said.iter().find(|line| line.contains(words)).unwrap();
        line.split(words).nth(1).unwrap().trim().to_owned()
    }

    /// Gives it another configuration and has it reload; what it said about that.
    pub(crate) fn reload(&self, setup: &Setup) -> (u16, Value) {
        setup.write_into(self.directory());
        let (status, report) = self.admin_request("POST", "/reload");
        (status, serde_json::from_str(&report).unwrap())
    }

    /// What it has written to standard error.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory with its configuration and its log.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new client connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the gateway to end", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    /// Ends it by SIGTERM, which must end with 0.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0), "{}", self.said().join("\n"));
    }

    /// Status and body of `GET path` on the admin address.
    pub(crate) fn admin_get(&self, path: &str) -> (u16, String) {
        self.admin_request("GET", path)
    }

    /// Status and body of a request on the admin address.
    pub(crate) fn admin_request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: admin\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The value of one sample of `/metrics`, named as it stands there (with its labels); 0 if absent.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let (_, text) = self.admin_get("/metrics");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
            .map_or(0.0, |value| value.split(' ').next().unwrap().parse().unwrap())
    }

    /// The lines of the access log, once there are at least so many.
    pub(crate) fn log(&self, lines: usize) -> Vec<Value> {
        self.lines_of("access.log", lines)
    }

    /// The lines of a log file in its directory, once there are at least so many.
    pub(crate) fn lines_of(&self, file: &str, lines: usize) -> Vec<Value> {
        until(&format!("{lines} log lines"), || self.lines_so_far(file).len() >= lines);
        self.lines_so_far(file)
    }

    /// The lines that are in a log file now.
    pub(crate) fn lines_so_far(&self, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.path().join(file)).unwrap_or_default();
        // A line is there when its end is.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of the binary to its end, in `directory`.
pub(crate) fn tollgate(directory: &Path, arguments: &[&str]) -> Output {
    tollgate_with(directory, arguments, &[])
}

/// Runs a command of the binary to its end, in `directory`, with further variables in its environment.
pub(crate) fn tollgate_with(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .current_dir(directory)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
