//! The command line as a person meets it: help, errors, completions, man pages.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::machine::Machine;

/// The program, with nothing around it that a test doesn't give it.
fn varu() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_varu"));
    command.env_clear().env("VARU_CONFIG", "/dev/null");
    command
}

#[test]
fn the_words_of_the_command_line() {
    trycmd::TestCases::new()
        .env("VARU_CONFIG", "/dev/null")
        .env("VARU_REPO", "")
        .env("VARU_WRITER_KEY", "")
        .env("VARU_IDENTITY", "")
        .env("VARU_STATE", "/tmp")
        .case("tests/cmd/*.md")
        .case("docs/json.md");
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = varu().args(["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{shell}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("VARU_COMPLETE"), "{shell}");
    }
}

/// Bash's completions for the last of some words.
fn offered(machine: &Machine, words: &[&str]) -> Vec<String> {
    let script = String::from_utf8(varu().args(["completions", "bash"]).output().unwrap().stdout).unwrap();
    let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let ask = format!(
        "{script}\ncomplete -p varu >&2; COMP_WORDS=(varu {line}); COMP_CWORD={at}; _clap_complete_varu varu '{last}' ''; printf \
         '%s\\n' \"${{COMPREPLY[@]}}\"",
        line = line.join(" "),
        at = words.len(),
        last = words.last().unwrap(),
    );
    let folder = Path::new(env!("CARGO_BIN_EXE_varu")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &ask]).env("PATH", path).env("VARU_STATE", machine.at("state"));
    let answer = bash.env("VARU_CONFIG", machine.at("varu.toml")).output().unwrap();
    let offered = String::from_utf8(answer.stdout).unwrap();
    offered.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

#[test]
fn bash_is_offered_commands_sets_snapshots_and_services() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path());
    fs::create_dir(machine.at("tree")).unwrap();
    fs::write(machine.at("tree/file"), "content").unwrap();
    let tree = machine.at("tree");
    let ended = machine.run(&["--json", "-q", "backup", "--init", "--set", "photos", tree.to_str().unwrap()]);
    let id = ended.ends(0).json()["snapshot"]["id"].as_str().unwrap()[..12].to_owned();
    let configured = format!(
        "[sets.letters]\nsource = \"files\"\npaths = [{tree:?}]\n[sets.ledger]\nsource = \"files\"\npaths = [{tree:?}]\n"
    );
    fs::write(machine.at("varu.toml"), configured).unwrap();
    assert_eq!(offered(&machine, &["rest"]), ["restore"]);
    assert_eq!(offered(&machine, &["backup", "l"]), ["ledger", "letters"]);
    assert_eq!(offered(&machine, &["restore", "--strip"]), ["--strip-components"]);
    assert_eq!(offered(&machine, &["restore", "p"]), ["photos"]);
    assert_eq!(offered(&machine, &["restore", "photos", "--snapshot", &id[..2]]), [id.as_str()]);
    assert_eq!(offered(&machine, &["ls", "ph"]), ["photos@latest"]);
    assert_eq!(offered(&machine, &["diff", &id, &id[..2]]), [id.as_str()]);
    assert_eq!(offered(&machine, &["restore", "photos", "--into", "m"]), ["mysql"]);
    // Options of the command line count, and unreadable files offer nothing.
    assert_eq!(offered(&machine, &["--state", "/nowhere", "restore", "p"]), [""; 0]);
    fs::write(machine.at("varu.toml"), "[sets").unwrap();
    assert_eq!(offered(&machine, &["backup", "l"]), [""; 0]);
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let status = varu().arg("man").arg("--to").arg(folder.path()).status().unwrap();
    assert!(status.success());
    let mut pages: Vec<String> =
        fs::read_dir(folder.path()).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    assert!(pages.len() > 20 && pages.iter().any(|page| page == "varu-key-add-recipient.1"), "{pages:?}");
    for (page, words) in
        [("varu.1", vec![]), ("varu-backup.1", vec!["backup"]), ("varu-key-export.1", vec!["key", "export"])]
    {
        let written = fs::read(folder.path().join(page)).unwrap();
        assert_eq!(varu().arg("man").args(words).output().unwrap().stdout, written, "{page}");
    }
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = varu().args(["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_under_standard_output_is_a_failure() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = varu().args(["config", "check"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(8));
    assert!(String::from_utf8(output.stderr).unwrap().contains("No space left on device"));
}
