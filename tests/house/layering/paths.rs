//! Every path that a Rust file uses, found in its tokens: in `use`, in types, in expressions and inside macros.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// A path that the code uses. Relative paths are made absolute; `*` is a glob.
pub struct Used {
    /// Its parts: `["crate", "id", "ChunkId"]`, `["blake3", "hash"]`.
    pub path: Vec<String>,
    /// Its line, from 1.
    pub line: usize,
    /// Whether it is in an item under `#[cfg(test)]`.
    pub in_test: bool,
}

/// The paths in `text`, the code of `module` (`remote::local`).
pub fn used_paths(text: &str, module: &str) -> Vec<Used> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{module}: {error}"));
    let mut walk = Walk { module: module.split("::").map(str::to_owned).collect(), in_test: false, found: Vec::new() };
    walk.tokens(tokens);
    walk.found
}

struct Walk {
    module: Vec<String>,
    in_test: bool,
    found: Vec<Used>,
}

impl Walk {
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let outer = self.in_test;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Ident(word) if word == "use" => {
                    let length = tokens[at..].iter().take_while(|token| !is_punct(token, ';')).count();
                    self.use_tree(&[], &tokens[at..at + length]);
                    at += length;
                }
                TokenTree::Ident(word) if word == "crate" && at >= 2 && is_ident(&tokens[at - 2], "extern") => {
                    if let Some(TokenTree::Ident(name)) = tokens.get(at) {
                        self.push(vec![plain(name)], name.span());
                    }
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let [TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at..] {
                        self.module.push(plain(name));
                        self.group(body, outer);
                        self.module.pop();
                        at += 2;
                    }
                }
                TokenTree::Ident(first) if starts_a_path(&tokens[..at - 1]) => at += self.path(first, &tokens[at..]),
                TokenTree::Group(group) => self.group(group, outer),
                token if is_punct(token, ';') => self.in_test = outer,
                _ => {}
            }
        }
        self.in_test = outer;
    }

    /// What brackets or braces hold. `#[cfg(test)]` counts up to the end of the item that it stands before; what came
    /// before it is `outer`.
    fn group(&mut self, group: &Group, outer: bool) {
        self.tokens(group.stream());
        match group.delimiter() {
            Delimiter::Bracket if group.stream().to_string().replace(' ', "") == "cfg(test)" => self.in_test = true,
            Delimiter::Brace => self.in_test = outer,
            _ => {}
        }
    }

    /// A path outside of `use`, from `first` on. Returns how many tokens it took.
    fn path(&mut self, first: &Ident, after: &[TokenTree]) -> usize {
        let mut parts = vec![plain(first)];
        let mut taken = 0;
        while let Some(TokenTree::Ident(part)) = after.get(taken + 2).filter(|_| is_colons(&after[taken..])) {
            parts.push(plain(part));
            taken += 3;
        }
        if parts.len() > 1 {
            self.push(parts, first.span());
        }
        taken
    }

    /// The tree of a `use`, under `prefix`.
    fn use_tree(&mut self, prefix: &[String], tokens: &[TokenTree]) {
        for branch in tokens.split(|token| is_punct(token, ',')) {
            let mut path = prefix.to_vec();
            let mut span = None;
            for token in branch {
                match token {
                    TokenTree::Ident(word) if word == "as" => break,
                    TokenTree::Ident(part) => path.push(plain(part)),
                    TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
                    TokenTree::Group(group) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.use_tree(&path, &inner);
                        path.clear();
                        break;
                    }
                    _ => {}
                }
                span.get_or_insert(token.span());
            }
            // `use a::{self}` is `use a`.
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            if let Some(span) = span.filter(|_| !path.is_empty()) {
                self.push(path, span);
            }
        }
    }

    /// Notes a path, from the crate on where it is relative.
    fn push(&mut self, mut path: Vec<String>, span: Span) {
        let up = path.iter().take_while(|part| *part == "super").count();
        if up > 0 || path[0] == "self" {
            let rest = path.split_off(up.max(1));
            path = vec!["crate".to_owned()];
            path.extend_from_slice(&self.module[..self.module.len().saturating_sub(up)]);
            path.extend(rest);
        }
        self.found.push(Used { path, line: span.start().line, in_test: self.in_test });
    }
}

/// The word, without the mark of a raw identifier.
fn plain(word: &Ident) -> String {
    word.to_string().trim_start_matches("r#").to_owned()
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_ident(token: &TokenTree, wanted: &str) -> bool {
    matches!(token, TokenTree::Ident(word) if word == wanted)
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [one, other, ..] if is_punct(one, ':') && is_punct(other, ':'))
}

/// Whether a word after `before` begins a path: it follows no `.`, and no `::` but one that itself begins the path.
fn starts_a_path(before: &[TokenTree]) -> bool {
    match before {
        [.., dot] if is_punct(dot, '.') => before.len() > 1 && is_punct(&before[before.len() - 2], '.'),
        [.., earlier, one, other] if is_punct(one, ':') && is_punct(other, ':') => {
            !matches!(earlier, TokenTree::Ident(_)) && !is_punct(earlier, '>')
        }
        _ => true,
    }
}
