//! One word for one thing: no name of a type is defined twice in `src/`.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::layering::{code, in_a_test_file, module_of};

/// Names that each module may have for its own.
const ALLOWED: [&str; 4] = ["Args", "Error", "Result", "State"];

/// The names of the types that the items of a file define outside of tests.
fn types(text: &str) -> Vec<String> {
    let tokens: TokenStream = text.parse().unwrap();
    let mut found = Vec::new();
    items(tokens, &mut found);
    found
}

fn items(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut in_test = false;
    for (at, token) in tokens.iter().enumerate() {
        match (token, tokens.get(at + 1)) {
            (TokenTree::Group(group), _) if group.delimiter() == Delimiter::Bracket => {
                in_test |= group.stream().to_string().replace(' ', "") == "cfg(test)";
            }
            (TokenTree::Ident(word), Some(TokenTree::Ident(name)))
                if ["struct", "enum", "trait", "union", "type"].iter().any(|keyword| word == keyword) && !in_test =>
            {
                found.push(name.to_string());
            }
            (TokenTree::Ident(word), Some(TokenTree::Ident(_))) if word == "mod" && !in_test => {
                if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                    items(body.stream(), found);
                }
            }
            // The end of an item.
            (TokenTree::Group(group), _) if group.delimiter() == Delimiter::Brace => in_test = false,
            (TokenTree::Punct(mark), _) if mark.as_char() == ';' => in_test = false,
            _ => {}
        }
    }
}

/// The names that several definitions have, with the files.
fn doubled(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| !in_a_test_file(&module_of(file))) {
        types(text).into_iter().for_each(|name| places.entry(name).or_default().push(file));
    }
    let several = places.iter().filter(|(name, files)| files.len() > 1 && !ALLOWED.contains(&name.as_str()));
    several.map(|(name, files)| format!("{name}: {}", files.join(", "))).collect()
}

#[test]
fn no_name_of_a_type_is_defined_twice() {
    let found = doubled(&code());
    assert!(
        found.is_empty(),
        "one word for one thing (docs/glossary.md); defined more than once:\n{}",
        found.join("\n")
    );
}

#[test]
fn a_name_that_is_defined_twice_is_caught() {
    let files = |files: &[(&str, &str)]| files.iter().map(|(file, text)| ((*file).into(), (*text).into())).collect();
    let found = doubled(&files(&[("a.rs", "pub struct Pack;"), ("b/c.rs", "mod inner { enum Pack { A } }")]));
    assert_eq!(found, ["Pack: a.rs, b/c.rs"]);
    let none: [String; 0] = [];
    assert_eq!(
        doubled(&files(&[("a.rs", "struct Args; type Result = ();"), ("b.rs", "struct Args; enum Error {}")])),
        none
    );
    assert_eq!(doubled(&files(&[("a.rs", "struct Pack;"), ("b.rs", "#[cfg(test)] mod tests { struct Pack; }")])), none);
    assert_eq!(doubled(&files(&[("a.rs", "impl T for A { type Pack = (); }"), ("b.rs", "type Pack = A;")])), none);
    assert_eq!(
        doubled(&files(&[("a.rs", "#[cfg(test)] struct Pack; struct Page;"), ("b.rs", "struct Page;")])).len(),
        1
    );
}
