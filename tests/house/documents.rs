//! Form of the documents: width of prose, and a glossary that names code which exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The widest line of prose, in characters.
const WIDTH: usize = 100;

/// Every Markdown file of the project, but for the transcripts of commands in `tests/cmd` and build output.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = Vec::new();
    let mut folders = vec![root.join("docs"), root.join("ansible")];
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        documents.push(root.join(name));
    }
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    documents
}

/// Lines of prose that are too wide: tables, code blocks, and lines that are one unbreakable word such as a link are exempt.
fn wide_lines(document: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut wide = Vec::new();
    for (at, line) in document.lines().enumerate() {
        let text = line.trim_start();
        if text.starts_with("```") {
            fenced = !fenced;
        }
        let exempt = fenced || text.starts_with('|') || line.starts_with("    ") || text.split_whitespace().count() < 2;
        if !exempt && line.chars().count() > WIDTH {
            wide.push((at + 1, line));
        }
    }
    wide
}

#[test]
fn prose_of_the_documents_is_wrapped() {
    let documents = documents();
    assert!(documents.len() > 40, "{documents:?}");
    for path in documents {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(wide_lines(&text), [], "{}: wider than {WIDTH} characters", path.display());
    }
}

#[test]
fn a_wide_line_of_prose_is_caught_and_tables_and_code_are_not() {
    let long = "word ".repeat(30);
    assert_eq!(wide_lines(&format!("# Heading\n\n{long}\n")), [(3, long.as_str())]);
    assert_eq!(wide_lines(&format!("- {long}\n")).len(), 1);
    assert_eq!(wide_lines(&format!("```\n{long}\n```\n\n    {long}\n\n| {long} |\n")), []);
    assert_eq!(wide_lines(&format!("<https://{}>\n", "a".repeat(120))), []);
    assert_eq!(wide_lines(&format!("{}\n", "ä".repeat(50) + " " + &"ö".repeat(49))), []);
}

/// Rust sources below `src/`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.strip_prefix(&root).unwrap().to_str().unwrap().strip_suffix(".rs") {
                let module = name.trim_end_matches("/mod").replace('/', "::");
                sources.push((module, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources
}

/// The code spans of a text.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a path as `format::pack` is a module, or one as `format::pack::Directory` a type in it.
fn is_code(path: &str, sources: &[(String, String)]) -> bool {
    let (module, name) = match path.rsplit_once("::") {
        Some((module, name)) if name.starts_with(|c: char| c.is_ascii_uppercase()) => (module, Some(name)),
        _ => (path, None),
    };
    sources.iter().filter(|(at, _)| at == module).any(|(_, text)| match name {
        None => true,
        Some(name) => ["struct", "enum", "trait"].iter().any(|kind| {
            text.match_indices(&format!("{kind} {name}")).any(|(at, found)| {
                !text[at + found.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            })
        }),
    })
}

/// Rows of the glossary: term, definition, code, surface.
fn rows(glossary: &str) -> Vec<[&str; 4]> {
    glossary
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .filter(|row| !row.starts_with("Term |") && !row.starts_with("---"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            cells.try_into().unwrap_or_else(|cells| panic!("four cells, not {cells:?}"))
        })
        .collect()
}

#[test]
fn the_glossary_names_code_and_tables_that_exist_and_each_term_once() {
    let sources = sources();
    assert!(is_code("format::pack::Directory", &sources) && is_code("retention", &sources));
    assert!(!is_code("format::pack::Director", &sources) && !is_code("format::nowhere", &sources));
    let glossary = include_str!("../../docs/glossary.md");
    let schema = include_str!("../../src/index/schema.sql");
    let mut terms = BTreeSet::new();
    for [term, _, code, surface] in rows(glossary) {
        assert!(terms.insert(term), "{term} is defined twice");
        for path in code_spans(code) {
            assert!(is_code(path, &sources), "{term}: src/ has no {path}");
        }
        let Some((_, tables)) = surface.split_once("table") else { continue };
        for table in code_spans(tables) {
            assert!(schema.contains(&format!("CREATE TABLE {table} (")), "{term}: the index has no table {table}");
        }
    }
    assert!(terms.len() > 80, "{} terms", terms.len());
}

#[test]
fn each_decision_record_has_its_parts_and_its_row_in_the_index() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let index = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut records = 0;
    for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        let record = fs::read_to_string(&path).unwrap();
        let title = record.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap();
        let field = |field: &str| record.lines().find_map(|line| line.strip_prefix(&format!("- {field}: "))).unwrap();
        let sections: Vec<_> = record.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(sections, ["Context", "Decision", "Alternatives", "Consequences"], "{name}");
        let row = format!("| [{}]({name}) | {title} | {} | {} ", &name[..4], field("Date"), &field("Status")[..8]);
        assert!(index.contains(row.trim_end()), "docs/decisions/README.md lacks the row {row:?}");
        records += 1;
    }
    assert!(records > 20 && index.matches("\n| [").count() == records, "{records} records");
}
