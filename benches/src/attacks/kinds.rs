//! The attacks: which guests, with which volumes and clients.

use std::any::Any;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use runwasi_tests::bundle::fifo;
use runwasi_tests::connection::guests;
use runwasi_tests::hostile::guests::Guest;
use runwasi_tests::hostile::hints::{self, Asking};
use runwasi_tests::hostile::hung::Hung;
use runwasi_tests::hostile::lease::Lease;
use runwasi_tests::hostile::programs as program;
use runwasi_tests::http::address;
use runwasi_tests::http::get_when_up;
use runwasi_tests::{Containers, poll_until};
use serde_json::json;
use tempfile::TempDir;

/// The memory limit of an attacker.
const LIMIT: u64 = 64 << 20;

/// A user other than root, for attacks by file calls.
const USER: u32 = 1000;

/// Readers of a file that does not answer: more than the workers.
const READERS: usize = 4;

/// Clients of a server under attack.
const CLIENTS: usize = 200;
/// Of those that never read, each of which holds a buffer of the host.
const DEAF_CLIENTS: usize = 16;

/// One attack.
pub(crate) struct Attack {
    /// For rows, and for `--only attacks/NAME`.
    pub(crate) name: &'static str,
    /// For the table.
    pub(super) title: &'static str,
    pub(super) prepare: fn(&Containers) -> Result<Attackers>,
}

/// Attackers before their start.
pub(super) struct Attackers {
    pub(super) course: Course,
    /// Memory limits of all that run at once, in bytes.
    pub(super) limit: u64,
    /// Files and clients that last as long as the attack.
    held: Vec<Box<dyn Any>>,
}

/// The life of attackers.
pub(super) enum Course {
    /// They run until they are killed.
    Lasting { guests: Vec<Guest>, clients: Option<Clients> },
    /// Each comes to an end with this status, and another one is started then.
    Ending { next: Next, status: i32 },
}

/// Native processes that compute until they are dropped.
struct Loops(Vec<Child>);

impl Loops {
    fn start() -> Result<Self> {
        let one = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        let mut loops = Self(Vec::new());
        for _ in 0..2 {
            loops.0.push(one().context("no native loop")?);
        }
        Ok(loops)
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Both fail only when it is gone already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Makes the attacker with this number.
type Next = Box<dyn Fn(&Containers, usize) -> Result<Guest> + Sync>;

/// Connects the clients of attackers that run.
type Clients = Box<dyn FnOnce() -> Result<Box<dyn Any>>>;

/// All of them, in the order of the table.
pub(crate) static ATTACKS: [Attack; 24] = [
    attack("native", "to compare: two native loops beside the runtime", |_| {
        let clients: Clients = Box::new(|| Ok(Box::new(Loops::start()?)));
        let course = Course::Lasting { guests: Vec::new(), clients: Some(clients) };
        Ok(Attackers { course, limit: 0, held: Vec::new() })
    }),
    attack("fifo", "FIFO swapped in for a file that is opened", fifo_swap),
    attack("lease", "opening of a file under a lease", leased_file),
    attack("hung", "reading from a FUSE server that does not answer", hung_files),
    attack("readdir", "`fd_readdir` of 100,000 names", |c| {
        let first = in_directory(c)?;
        let mut second = with_memory(c, program::list())?.user(USER);
        second.config()["root"]["path"] = json!(first.inside("/"));
        Ok(lasting(vec![first, second]))
    }),
    attack("pwrite", "`fd_pwrite` of 57 MB", |c| {
        two(c, |c| {
            let guest = with_memory(c, program::writes("(br $l)"))?.user(USER);
            open_to_all(&guest.inside("data"))?;
            Ok(guest)
        })
    }),
    attack("random", "`random_get` of 58 MB", |c| two(c, |c| with_memory(c, program::random()))),
    attack("poll_many", "`poll_oneoff` with 400,000 subscriptions", |c| {
        two(c, |c| with_memory(c, program::polls(400_000, "(br $l)")))
    }),
    attack("poll", "`poll_oneoff` with 512 subscriptions", |c| {
        two(c, |c| with_memory(c, program::polls(512, "(br $l)")))
    }),
    attack("hosts", "lookup of a name with 90,000 addresses in `/etc/hosts`", |c| {
        two(c, |c| {
            let guest = with_memory(c, program::LOOKUP)?.export("go");
            fs::write(guest.inside("etc/hosts"), program::hosts())?;
            Ok(guest)
        })
    }),
    attack("missing_keys", "`get-many` of 1,000,000 missing keys", |c| {
        // A call may take a quarter of the limit. The keys need 24 MB.
        let guest =
            |c: &Containers| Ok(Guest::new(c, program::GET_MANY)?.export("go").memory(4 * LIMIT));
        two(c, guest).map(|attackers| Attackers { limit: 8 * LIMIT, ..attackers })
    }),
    attack("keys", "`get-many` of 400 times 8 MiB", |_| {
        Ok(ending(0, program::KEYVALUE.replace("10000", "400")))
    }),
    attack("bodies", "HTTP requests with bodies that are not sent", |_| {
        Ok(ending(137, program::HTTP.replace("(; GO ;)", program::BODIES)))
    }),
    attack("fields", "HTTP fields without end", |_| {
        Ok(ending(137, program::HTTP.replace("(; GO ;)", program::FIELDS)))
    }),
    attack("gc_heap", "objects of a GC heap without end", |_| {
        Ok(ending(137, program::OBJECTS.replace("COUNT", "-1")))
    }),
    attack("gc", "lists of 200,000 objects, built and let go", |c| {
        two(c, |c| with_memory(c, program::COLLECT))
    }),
    attack("fill", "`memory.fill` of 58 MB", |c| two(c, |c| with_memory(c, program::FILL))),
    attack("spin", "computation", |c| two(c, |c| with_memory(c, program::SPIN))),
    attack("memories", "16 linear memories of a component", |c| {
        two(c, |c| {
            let parts = "(memory 0)(memory 0)(memory 0)(memory 0)";
            Ok(with_memory(c, program::component(4, parts))?.export("go"))
        })
    }),
    attack("descriptors", "as many open files as allowed", |c| {
        two(c, |c| with_memory(c, program::OPENER))
    }),
    attack("stacks", "200 slow requests to a server with `max-requests` 10000", |c| {
        server(c, "/slow?ms=600000", CLIENTS)
    }),
    attack("deaf", "16 clients that never read their 200 MB", |c| {
        server(c, "/bytes?count=200000000", DEAF_CLIENTS)
    }),
    attack("informational", "responses 103 without end to requests of a server", hinted),
    attack("compilation", "modules of 180,000 instructions, each a new one", |c| {
        let salt = std::process::id() as usize;
        let of_runtime = usize::from(c.runtime.needs_daemon());
        let next: Next = Box::new(move |c: &Containers, n: usize| {
            Guest::new(c, program::large(300, (salt * 1000 + n) * 2 + of_runtime))
        });
        Ok(Attackers { course: Course::Ending { next, status: 0 }, limit: 0, held: Vec::new() })
    }),
];

const fn attack(
    name: &'static str,
    title: &'static str,
    prepare: fn(&Containers) -> Result<Attackers>,
) -> Attack {
    Attack { name, title, prepare }
}

impl Attackers {
    fn holding(mut self, thing: impl Any) -> Self {
        self.held.push(Box::new(thing));
        self
    }

    /// Keeps the clients for as long as the attack lasts.
    pub(super) fn connect(&mut self) -> Result<()> {
        if let Course::Lasting { clients, .. } = &mut self.course
            && let Some(connect) = clients.take()
        {
            self.held.push(connect()?);
        }
        Ok(())
    }
}

fn with_memory(c: &Containers, text: impl AsRef<[u8]>) -> Result<Guest> {
    Ok(Guest::new(c, text)?.memory(LIMIT))
}

fn lasting(guests: Vec<Guest>) -> Attackers {
    let limit = LIMIT * guests.len() as u64;
    Attackers { course: Course::Lasting { guests, clients: None }, limit, held: Vec::new() }
}

fn two(c: &Containers, guest: impl Fn(&Containers) -> Result<Guest>) -> Result<Attackers> {
    Ok(lasting(vec![guest(c)?, guest(c)?]))
}

/// A program whose function `go` comes to its end by its limit.
fn ending(status: i32, text: impl Into<String>) -> Attackers {
    let text = text.into();
    let next: Next =
        Box::new(move |c: &Containers, _: usize| Ok(with_memory(c, &text)?.export("go")));
    Attackers { course: Course::Ending { next, status }, limit: LIMIT, held: Vec::new() }
}

fn open_to_all(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o777))?)
}

/// A volume that other users may write to.
fn volume() -> Result<TempDir> {
    let dir = TempDir::new()?;
    open_to_all(dir.path())?;
    Ok(dir)
}

/// Readers of a volume, by root and by another user.
fn on_volume(c: &Containers, volume: &Path, text: &str) -> Result<Vec<Guest>> {
    let guest = |n| -> Result<Guest> {
        let user = if n % 2 == 0 { 0 } else { USER };
        Ok(with_memory(c, text)?.volume(volume, "/v").user(user))
    };
    (0..READERS).map(guest).collect()
}

fn fifo_swap(c: &Containers) -> Result<Attackers> {
    let dir = volume()?;
    fs::write(dir.path().join("a"), "content")?;
    fifo(&dir.path().join("b"))?;
    for name in ["a", "b"] {
        fs::set_permissions(dir.path().join(name), PermissionsExt::from_mode(0o666))?;
    }
    let mut guests = on_volume(c, dir.path(), program::OPEN)?;
    guests.push(with_memory(c, program::SWAP)?.volume(dir.path(), "/v"));
    Ok(lasting(guests).holding(dir))
}

fn leased_file(c: &Containers) -> Result<Attackers> {
    let dir = volume()?;
    let file = dir.path().join("f");
    fs::write(&file, "content")?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666))?;
    let lease = Lease::write(&file)?;
    let guests = on_volume(c, dir.path(), &program::read("v/f"))?;
    Ok(lasting(guests).holding(lease).holding(dir))
}

fn hung_files(c: &Containers) -> Result<Attackers> {
    let dir = volume()?;
    let mounted = dir.path().join("hung");
    let hung = Hung::mount(&mounted)?;
    let guests = on_volume(c, &mounted, &program::read("v/f"))?;
    Ok(lasting(guests).holding(hung).holding(dir))
}

/// A guest that lists its root directory, which is large.
fn in_directory(c: &Containers) -> Result<Guest> {
    let guest = with_memory(c, program::list())?.user(USER);
    for n in 0..100_000 {
        fs::write(guest.inside(&format!("file-{n}")), "")?;
    }
    Ok(guest)
}

fn http_app(c: &Containers, address: SocketAddr) -> Result<Guest> {
    let program = fs::read(guests()?.join("http_app.wasm"))?;
    let guest =
        with_memory(c, program)?.annotation("io.runwasi.http.address", &address.to_string());
    Ok(guest.annotation("io.runwasi.http.max-requests", "10000"))
}

/// Two servers that ask an upstream without a response.
fn hinted(c: &Containers) -> Result<Attackers> {
    let servers = [address(), address()];
    let upstream = hints::upstream()?;
    let guests = servers.iter().map(|address| http_app(c, *address)).collect::<Result<Vec<_>>>()?;
    let limit = LIMIT * guests.len() as u64;
    let clients: Clients = Box::new(move || Ok(Box::new(Asking::start(&servers, upstream))));
    let course = Course::Lasting { guests, clients: Some(clients) };
    Ok(Attackers { course, limit, held: Vec::new() })
}

/// A server, and clients that ask it for a path and do not read.
fn server(c: &Containers, path: &'static str, count: usize) -> Result<Attackers> {
    let address = address();
    let guest = http_app(c, address)?;
    let clients: Clients = Box::new(move || -> Result<Box<dyn Any>> {
        get_when_up(address, "/hello")?;
        let clients = (0..count).map(|_| ask(address, path)).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(clients))
    });
    let course = Course::Lasting { guests: vec![guest], clients: Some(clients) };
    Ok(Attackers { course, limit: LIMIT, held: Vec::new() })
}

fn ask(address: SocketAddr, path: &str) -> Result<TcpStream> {
    let connected = || TcpStream::connect(address).ok();
    let mut stream = poll_until("a connection", std::time::Duration::from_secs(5), connected)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").context("no request")?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attacks_differ() {
        let mut names: Vec<_> = ATTACKS.iter().map(|attack| attack.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ATTACKS.len());
    }
}
