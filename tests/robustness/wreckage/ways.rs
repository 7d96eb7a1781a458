//! Remedies that messages name: each state of wreckage is made, the commands are taken out of the program's output, run
//! unchanged, and then backups continue and all is intact.

use super::*;

/// A machine that finds all that it needs by its environment: the commands of a message have no options for it.
pub struct Wreck {
    pub site: Site,
    /// The place of the repository.
    pub here: std::path::PathBuf,
    /// Another location with the objects that this one lacks.
    other: std::path::PathBuf,
    /// A copy of the key object, as a recovery sheet has it.
    key_object: std::path::PathBuf,
    /// Folders that end with it.
    _folders: Vec<tempfile::TempDir>,
}

impl Wreck {
    /// Three backups, of which another place has a copy.
    pub fn new() -> Self {
        let site = files();
        site.back_up();
        put(&site, "4", 50_000);
        site.back_up();
        put(&site, "5", 50_000);
        site.back_up();
        let (here, other) = (site.machine.at("vault"), site.machine.at("other"));
        copy(&here, &other);
        let key_object = site.machine.at("sheet.age");
        let name = objects(&site, "keys").remove(0);
        fs::copy(here.join("keys").join(name), &key_object).unwrap();
        Self { site, here, other, key_object, _folders: Vec::new() }
    }

    pub fn top(&self, name: &str) -> std::path::PathBuf {
        self.site.machine.at(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.top("home"));
        varu.env("VARU_WRITER_KEY", self.top("keys/writer.key")).env("VARU_IDENTITY", self.top("keys/identity.txt"));
        varu.env("VARU_CONFIG", self.site.config()).env("VARU_STATE", self.top("state")).env("VARU_REPO", &self.here);
        varu.args(words);
        varu
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        run(&mut self.command(words))
    }

    /// Backups continue, all is intact, and restores match the source.
    pub fn goes_on(&self, what: &str) {
        let first = self.run(&["backup", "s"]);
        assert!([0, 3].contains(&first.status), "{what}: backup {} {}", first.status, first.err);
        let next = self.run(&["backup", "s"]);
        assert_eq!(next.status, 0, "{what}: next backup {}", next.err);
        let verified = self.run(&["verify", "--level", "data"]);
        assert_eq!(verified.status, 0, "{what}: {} {}", String::from_utf8_lossy(&verified.out), verified.err);
        let to = tempfile::tempdir().unwrap();
        let back = self.run(&["restore", "s", "--to", to.path().to_str().unwrap()]);
        assert_eq!(back.status, 0, "{what}: {}", back.err);
        assert!(below(to.path()) == below(&self.top("src")), "{what}");
    }

    /// Continues with a copy that lacks the newest snapshot.
    fn move_to_an_older_place(&mut self) {
        copy(&self.here.clone(), &self.top("moved"));
        self.here = self.top("moved");
        self.lose_newest();
    }

    pub fn lose_newest(&self) {
        let newest = objects(&self.site, "snapshots").pop().unwrap();
        fs::remove_file(self.here.join("snapshots").join(newest)).unwrap();
    }

    pub fn empty(&self, folder: &str) {
        for name in objects(&self.site, folder) {
            fs::remove_file(self.here.join(folder).join(name)).unwrap();
        }
    }
}

pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The commands in a message, in order, each once.
fn commands(said: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A wrapped or repeated sentence names the same command.
    for quoted in said.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("varu ")) {
        if !found.iter().any(|known| known == quoted) {
            found.push(quoted.to_owned());
        }
    }
    found
}

/// A state: its name, its preparation, the command that is run in it, its exit status, and the commands that it names.
struct State {
    name: &'static str,
    make: fn(&mut Wreck),
    said_by: &'static [&'static str],
    status: i32,
    ways: &'static [&'static str],
}

const STATES: [State; 10] = [
    State {
        name: "the newest snapshot is gone",
        make: |wreck| wreck.lose_newest(),
        said_by: &["backup", "s"],
        status: 7,
        ways: &["varu --repo OTHER copy --to HERE", "varu index rebuild --salvage", "varu index rebuild --accept-loss"],
    },
    State {
        name: "the last snapshot of an older chain is gone",
        make: |wreck| {
            assert_eq!(wreck.run(&["backup", "s", "--full"]).status, 0);
            let last = objects(&wreck.site, "snapshots").remove(2);
            fs::remove_file(wreck.here.join("snapshots").join(last)).unwrap();
        },
        said_by: &["backup", "s"],
        status: 3,
        ways: &["varu index rebuild --salvage"],
    },
    State {
        name: "the place is at another path, and older",
        make: Wreck::move_to_an_older_place,
        said_by: &["backup", "s"],
        status: 7,
        ways: &["varu --repo THERE copy --to HERE", "varu --repo HERE index rebuild --accept-loss"],
    },
    State {
        name: "a prune in an older place",
        make: Wreck::move_to_an_older_place,
        said_by: &["prune"],
        status: 7,
        ways: &["varu --repo THERE copy --to HERE", "varu --repo HERE index rebuild --accept-loss"],
    },
    State {
        name: "all snapshots are gone, and nothing is known of them",
        make: |wreck| {
            wreck.empty("snapshots");
            fs::remove_dir_all(wreck.top("state")).unwrap();
        },
        said_by: &["list"],
        status: 7,
        ways: &["varu index rebuild --salvage"],
    },
    State {
        name: "no key object is there",
        make: |wreck| wreck.empty("keys"),
        said_by: &["verify"],
        status: 7,
        ways: &["varu backup", "varu key import FILE"],
    },
    State {
        name: "the key object is damaged",
        make: |wreck| {
            let name = objects(&wreck.site, "keys").remove(0);
            fs::write(wreck.here.join("keys").join(name), "nonsense").unwrap();
        },
        said_by: &["verify"],
        status: 7,
        ways: &["varu backup", "varu key import FILE"],
    },
    State {
        name: "the writer key is gone",
        make: |wreck| {
            fs::remove_file(wreck.top("keys/writer.key")).unwrap();
        },
        said_by: &["backup", "s"],
        status: 2,
        ways: &["varu key recover"],
    },
    State {
        name: "the repository is another machine's",
        make: |wreck| {
            let name = wreck.top("state");
            // A machine of another kind: its number is another one's.
            fs::remove_dir_all(name).unwrap();
            written_by_another(wreck);
        },
        said_by: &["backup", "s"],
        status: 5,
        ways: &["varu index adopt"],
    },
    State {
        name: "an old snapshot was put back",
        make: |wreck| {
            let old = objects(&wreck.site, "snapshots").remove(0);
            let path = wreck.here.join("snapshots").join(&old);
            let away = wreck.top("away");
            fs::rename(&path, &away).unwrap();
            assert!([0, 3].contains(&wreck.run(&["list"]).status));
            fs::rename(&away, &path).unwrap();
        },
        said_by: &["list"],
        status: 3,
        ways: &["varu index rebuild"],
    },
];

/// Backs up once on a machine with another number.
pub fn written_by_another(wreck: &Wreck) {
    let script = "mount --bind \"$1\" /etc/machine-id && shift && exec \"$@\"";
    let id = wreck.top("machine-id");
    fs::write(&id, "0123456789abcdef0123456789abcdef\n").unwrap();
    let mut varu = Command::new("unshare");
    varu.args(["-m", "sh", "-c", script, "sh"]).arg(&id).arg(env!("CARGO_BIN_EXE_varu")).args(["backup", "s"]);
    varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", wreck.top("home"));
    varu.env("VARU_WRITER_KEY", wreck.top("keys/writer.key")).env("VARU_CONFIG", wreck.site.config());
    varu.env("VARU_STATE", wreck.top("state of another")).env("VARU_REPO", &wreck.here);
    let ended = run(&mut varu);
    assert!([0, 3, 5].contains(&ended.status), "{}", ended.err);
    // Its snapshot is the newest in any case: it takes the place over.
    if ended.status == 5 {
        let mut words: Vec<std::ffi::OsString> = varu.get_args().map(|word| word.to_owned()).collect();
        words.truncate(words.len() - 2);
        let again = |last: [&str; 2]| {
            let mut varu = Command::new("unshare");
            varu.args(&words).args(last).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
            varu.env("HOME", wreck.top("home")).env("VARU_WRITER_KEY", wreck.top("keys/writer.key"));
            varu.env("VARU_CONFIG", wreck.site.config()).env("VARU_STATE", wreck.top("state of another"));
            let ended = run(varu.env("VARU_REPO", &wreck.here));
            assert!([0, 3].contains(&ended.status), "{}", ended.err);
        };
        again(["index", "adopt"]);
        again(["backup", "s"]);
    }
}

/// Makes a state, and takes one of the ways that its message names. None if it names no more.
fn take(state: &State, number: usize) -> bool {
    let mut wreck = Wreck::new();
    let there = wreck.here.display().to_string();
    (state.make)(&mut wreck);
    let ended = wreck.run(state.said_by);
    let said = String::from_utf8_lossy(&ended.out).into_owned() + &ended.err;
    assert_eq!(ended.status, state.status, "{}: {said}", state.name);
    let here = wreck.here.display().to_string();
    let general = |command: &String| match there == here {
        true => command.replace(&here, "HERE"),
        false => command.replace(&here, "HERE").replace(&there, "THERE"),
    };
    let found = commands(&said);
    let named: Vec<String> = found.iter().map(general).collect();
    assert_eq!(named, state.ways, "{}: {said}", state.name);
    let Some(command) = found.get(number) else { return false };
    let other = wreck.other.display().to_string();
    let key_object = wreck.key_object.display().to_string();
    let words = command.replace("OTHER", &other).replace("FILE", &key_object);
    // Which set is the reader's to say.
    let words = if words == "varu backup" { "varu backup s" } else { &words };
    let words: Vec<&str> = words.split(' ').skip(1).collect();
    let what = format!("{}: {command}", state.name);
    let way = wreck.run(&words);
    assert!([0, 3].contains(&way.status), "{what}: {} {}", way.status, way.err);
    // From there on all goes as it should.
    wreck.goes_on(&what);
    let pruned = wreck.run(&["prune"]);
    assert!([0, 3].contains(&pruned.status), "{what}: prune {} {}", pruned.status, pruned.err);
    println!("{what}: good");
    true
}

fn each_leads_out(states: &[State]) {
    for state in states {
        let mut number = 0;
        while take(state, number) {
            number += 1;
        }
        assert!(number > 0, "{}", state.name);
    }
}

#[test]
fn each_way_out_that_is_named_where_snapshots_are_lost_leads_out() {
    each_leads_out(&STATES[..5]);
}

#[test]
fn each_way_out_that_is_named_where_keys_are_lost_or_others_wrote_leads_out() {
    each_leads_out(&STATES[5..]);
}
