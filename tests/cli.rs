//! The command line as a person meets it: help, errors, completions, man pages.

use std::fs;
use std::process::{Command, Stdio};

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
fn every_shell_has_completions_and_bash_takes_its_own() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = varu().args(["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("add-recipient") && script.contains("strip-components"), "{shell}");
        if shell == "bash" {
            let ask = format!(
                "{script}\ncomplete -p varu; COMP_WORDS=(varu res); COMP_CWORD=1; _varu varu res; echo $COMPREPLY"
            );
            let answer = Command::new("bash").args(["-c", &ask]).output().unwrap();
            let answer = String::from_utf8(answer.stdout).unwrap();
            assert!(answer.contains("-F _varu varu\n") && answer.ends_with("restore\n"), "{answer}");
        }
    }
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
