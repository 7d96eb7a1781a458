//! Patterns as `.gitignore` files write them, read as git reads them.

use std::ops::Range;

use super::Error;
use crate::entry::Escaped;

/// Patterns, of which the last that matches decides. They are anchored at `/`: `/srv/www/cache` and `srv/www/cache` are that
/// one path, `cache` is any of the name, `cache/` any folder of the name, `!` takes back.
#[derive(Default, Clone)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Clone)]
struct Pattern {
    /// As it was written.
    text: String,
    /// The pattern, without `!` and the slashes around it.
    glob: Vec<u8>,
    takes_back: bool,
    only_folders: bool,
    /// Whether it means a whole path, and not a name anywhere.
    is_path: bool,
}

impl Patterns {
    /// # Errors
    /// [`Error::Config`] names a pattern that can't be read, or can match nothing.
    pub(super) fn parse(patterns: &[String]) -> Result<Self, Error> {
        let mut parsed: Vec<Pattern> = Vec::with_capacity(patterns.len());
        for text in patterns {
            let failed = |why: &str| Error::Config(format!("the pattern {text:?} can match nothing: {why}"));
            let pattern = Pattern::parse(text).map_err(failed)?;
            if pattern.takes_back && parsed.iter().all(|before| before.takes_back) {
                return Err(failed(
                    "! takes back what a pattern before it matched, and there is none; \\! is the character",
                ));
            }
            parsed.push(pattern);
        }
        Ok(Self(parsed))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How all paths begin that can be matched, or lie below one that is; None where any may.
    pub(super) fn starts(&self) -> Option<Vec<Vec<u8>>> {
        let takes = self.0.iter().filter(|pattern| !pattern.takes_back);
        takes.map(|pattern| pattern.is_path.then(|| pattern.start())).collect()
    }

    /// Whether the path, without a slash before it, is matched itself. None where no pattern says anything.
    fn decision(&self, path: &[u8], is_folder: bool) -> Option<bool> {
        let pattern = self.0.iter().rev().find(|pattern| pattern.matches(path, is_folder))?;
        Some(!pattern.takes_back)
    }

    /// Whether the path is matched itself. The caller knows about paths below a matched folder.
    pub(super) fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        self.decision(path, is_folder).unwrap_or(false)
    }

    /// Whether the path is matched, or else the nearest folder above it of which a pattern says something.
    pub(super) fn takes(&self, path: &[u8], is_folder: bool) -> bool {
        let (mut path, mut is_folder) = (path, is_folder);
        loop {
            if let Some(decided) = self.decision(path, is_folder) {
                return decided;
            }
            match path.iter().rposition(|&byte| byte == b'/') {
                Some(slash) => (path, is_folder) = (&path[..slash], true),
                None => return false,
            }
        }
    }

    /// Refuses a pattern that can match nothing in the folders `roots`, whose paths are without a slash before them, and one with
    /// a slash in it that leaves out such a path itself, or a folder above it: a path that is asked for is stored.
    pub(super) fn check_below(&self, roots: &[&[u8]]) -> Result<(), Error> {
        for root in roots {
            let ends = root.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([root.len()]);
            let decides = |end: usize| {
                let path = &root[..end];
                self.0
                    .iter()
                    .rev()
                    .find(|pattern| pattern.matches(path, true))
                    .filter(|pattern| pattern.is_path && !pattern.literal_start().is_empty())
            };
            if let Some(pattern) =
                ends.filter(|end| *end > 0).filter_map(decides).next_back().filter(|pattern| !pattern.takes_back)
            {
                return Err(Error::Config(format!(
                    "the pattern {:?} leaves out /{} itself, which is a path that is to be stored: leave out one of them, or only \
                     what is below by {0}/*",
                    pattern.text,
                    Escaped(root)
                )));
            }
        }
        for pattern in self.0.iter().filter(|pattern| pattern.is_path) {
            let literal = pattern.literal_start();
            let leads = |root: &&[u8]| {
                let parts = root.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
                parts.zip(&literal).all(|(part, literal)| part == &literal[..])
            };
            if !roots.iter().any(leads) {
                let root = roots.first().copied().unwrap_or_default();
                return Err(Error::Config(format!(
                    "the pattern {:?} can match nothing: one with a slash in it begins at /, and nothing that is stored lies in \
                     /{}; write the whole path, as /{}/…, or **/{} for a path anywhere",
                    pattern.text,
                    Escaped(&literal.join(&b'/')),
                    Escaped(root),
                    Escaped(&pattern.glob)
                )));
            }
        }
        Ok(())
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut glob = without_blanks(text.as_bytes());
        if glob.starts_with(b"#") {
            return Err("it is a comment; \\# is the character");
        }
        let takes_back = glob.starts_with(b"!");
        glob = glob.strip_prefix(b"!").unwrap_or(glob);
        let only_folders = glob.ends_with(b"/");
        glob = glob.strip_suffix(b"/").unwrap_or(glob);
        let is_path = glob.contains(&b'/');
        glob = glob.strip_prefix(b"/").unwrap_or(glob);
        if glob.is_empty() {
            return Err("it is empty");
        }
        if glob.split(|&byte| byte == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            return Err("no path has two slashes in a row, . or .. in it; paths begin at /");
        }
        check_glob(glob)?;
        Ok(Self { text: text.to_owned(), glob: glob.to_vec(), takes_back, only_folders, is_path })
    }

    /// What stands before the first character that means others.
    fn start(&self) -> Vec<u8> {
        let end = self.glob.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        self.glob[..end.unwrap_or(self.glob.len())].to_vec()
    }

    fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        if self.only_folders && !is_folder {
            return false;
        }
        let start = match self.is_path {
            true => 0,
            false => path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1),
        };
        wild(&self.glob, 0, path, start) == Match::Yes
    }

    /// The components at the beginning that have no special characters.
    fn literal_start(&self) -> Vec<Vec<u8>> {
        let parts = self.glob.split(|&byte| byte == b'/');
        let literal = parts.take_while(|part| !part.iter().any(|byte| b"*?[".contains(byte)));
        literal
            .map(|part| {
                let mut escaped = false;
                let plain = part.iter().copied().filter(|&byte| {
                    escaped = byte == b'\\' && !escaped;
                    !escaped
                });
                plain.collect()
            })
            .collect()
    }
}

/// The text without blanks at its end, unless a backslash is before one.
fn without_blanks(text: &[u8]) -> &[u8] {
    let (mut end, mut at) = (0, 0);
    while at < text.len() {
        match text[at] {
            b'\\' => {
                at = (at + 2).min(text.len());
                end = at;
            }
            b' ' => at += 1,
            _ => {
                at += 1;
                end = at;
            }
        }
    }
    &text[..end]
}

/// Whether git could ever match it: no class is open, none is unknown, and nothing is escaped that isn't there.
fn check_glob(glob: &[u8]) -> Result<(), &'static str> {
    let mut at = 0;
    while at < glob.len() {
        match glob[at] {
            b'\\' if at + 1 == glob.len() => return Err("a backslash at its end escapes nothing"),
            b'\\' => at += 2,
            b'[' => at = class(glob, at, 0).ok_or("the class that [ begins has no end, or an unknown name")?.1,
            _ => at += 1,
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// No, and no longer text before it can change that.
    Never,
    /// As that, up to where a `**` begins.
    NeverBeforeStars,
}

/// Matches `glob` from `p` on with `text` from `t` on, as git's `wildmatch` does for paths.
fn wild(glob: &[u8], mut p: usize, text: &[u8], mut t: usize) -> Match {
    while p < glob.len() {
        let byte = text.get(t).copied();
        if byte.is_none() && glob[p] != b'*' {
            return Match::Never;
        }
        match (glob[p], byte) {
            (b'?', Some(b'/')) => return Match::No,
            (b'?', _) => p += 1,
            (b'*', _) => return stars(glob, p, text, t),
            (b'[', Some(byte)) => {
                let Some((matched, end)) = class(glob, p, byte) else { return Match::Never };
                if !matched || byte == b'/' {
                    return Match::No;
                }
                p = end;
            }
            (b'\\', Some(byte)) => {
                if glob.get(p + 1) != Some(&byte) {
                    return Match::No;
                }
                p += 2;
            }
            (literal, byte) => {
                if byte != Some(literal) {
                    return Match::No;
                }
                p += 1;
            }
        }
        t += 1;
    }
    if t < text.len() { Match::No } else { Match::Yes }
}

/// Goes on with one or more stars at `first`.
fn stars(glob: &[u8], first: usize, text: &[u8], mut t: usize) -> Match {
    let run: Range<usize> = first..first + glob[first..].iter().take_while(|&&byte| byte == b'*').count();
    let p = run.end;
    let stands_alone = (first == 0 || glob[first - 1] == b'/') && matches!(glob.get(p), None | Some(b'/'));
    let crosses = run.len() > 1 && stands_alone;
    if crosses && glob.get(p) == Some(&b'/') && wild(glob, p + 1, text, t) == Match::Yes {
        return Match::Yes;
    }
    let slash = || text[t..].iter().position(|&byte| byte == b'/');
    if p == glob.len() {
        return if crosses || slash().is_none() { Match::Yes } else { Match::NeverBeforeStars };
    }
    if !crosses && glob[p] == b'/' {
        // One star and a slash: the next folder.
        return match slash() {
            None => Match::Never,
            Some(at) => wild(glob, p + 1, text, t + at + 1),
        };
    }
    while t < text.len() {
        match wild(glob, p, text, t) {
            Match::No if !crosses && text[t] == b'/' => return Match::NeverBeforeStars,
            Match::No => {}
            Match::NeverBeforeStars if crosses => {}
            matched => return matched,
        }
        t += 1;
    }
    Match::Never
}

/// Whether the class at `start`, a `[`, has the byte; and where it ends. None where it has no end.
fn class(glob: &[u8], start: usize, byte: u8) -> Option<(bool, usize)> {
    let mut at = start + 1;
    let negated = matches!(glob.get(at)?, b'!' | b'^');
    at += usize::from(negated);
    let (mut matched, mut last, mut is_first) = (false, None, true);
    loop {
        let one = *glob.get(at)?;
        match one {
            b']' if !is_first => return Some((matched != negated, at + 1)),
            b'\\' => {
                at += 1;
                let escaped = *glob.get(at)?;
                matched |= byte == escaped;
                last = Some(escaped);
            }
            b'-' if last.is_some() && glob.get(at + 1).is_some_and(|&next| next != b']') => {
                at += 1;
                if glob[at] == b'\\' {
                    at += 1;
                }
                let end = *glob.get(at)?;
                matched |= last.is_some_and(|first| (first..=end).contains(&byte));
                last = None;
            }
            b'[' if glob.get(at + 1) == Some(&b':') => {
                let name_start = at + 2;
                let end = name_start + glob[name_start..].iter().position(|&byte| byte == b']')?;
                if end > name_start && glob[end - 1] == b':' {
                    matched |= is_in_class(&glob[name_start..end - 1], byte)?;
                    last = None;
                    at = end;
                } else {
                    matched |= byte == b'[';
                    last = Some(b'[');
                }
            }
            _ => {
                matched |= byte == one;
                last = Some(one);
            }
        }
        is_first = false;
        at += 1;
    }
}

/// Whether the byte is of a class with a name; None where there is no such class.
fn is_in_class(name: &[u8], byte: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(patterns: &[&str]) -> Result<Patterns, Error> {
        Patterns::parse(&patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        for bad in ["", " ", "/", "//", "#x", "!x", "a[", "[[:nosuch:]]", "./a", "a/../b", "a//b", "a\\", "[]", "!"] {
            let error = parsed(&[bad]).err().unwrap_or_else(|| panic!("{bad:?}")).to_string();
            assert!(error.starts_with(&format!("the pattern {bad:?} can match nothing: ")), "{error}");
        }
        for good in ["a{b,c}d", "x{y", "{guid}", "\\#x", "\\!x", "[]]", "a\\ ", "[[:upper:]]*", "**", "...", "a]"] {
            assert!(parsed(&[good]).is_ok(), "{good:?}");
        }
        assert!(parsed(&["x*", "!xy"]).is_ok());
    }

    #[test]
    fn what_lies_elsewhere_is_refused() {
        let below = |pattern: &str, roots: &[&str]| {
            let roots: Vec<&[u8]> = roots.iter().map(|root| root.as_bytes()).collect();
            parsed(&[pattern]).unwrap().check_below(&roots).map_err(|error| error.to_string())
        };
        for bad in ["data/cache", "/data/cache", "data/cache/", "srv/date/*", "srv/data2/x", "/x"] {
            let error = below(bad, &["srv/data"]).unwrap_err();
            assert!(error.contains("begins at /") && error.contains("/srv/data/…"), "{error}");
        }
        for good in
            ["cache", "cache/", "srv/data/cache", "/srv/*/cache", "**/data/cache", "*/data", "srv/dat[a]/x", "srv/"]
        {
            assert!(below(good, &["srv/data"]).is_ok(), "{good}");
        }
        for bad in ["/srv", "srv/data", "/srv/*", "srv/d?ta/"] {
            let error = below(bad, &["etc", "srv/data"]).unwrap_err();
            assert!(error.contains("leaves out /srv/data itself"), "{error}");
        }
        let taken_back = parsed(&["/srv/*", "!/srv/data"]).unwrap();
        assert!(taken_back.check_below(&[b"srv/data"]).is_ok());
        assert!(below("etc/x", &["srv/data", "etc"]).is_ok() && below("etc/x", &[""]).is_ok());
    }

    #[test]
    fn many_stars_end_soon() {
        let glob = "*a".repeat(40) + "b";
        assert!(!parsed(&[&glob]).unwrap().matches("a".repeat(200).as_bytes(), false));
        let deep = "**/".repeat(8) + "x";
        assert!(!parsed(&[&deep]).unwrap().matches("a/".repeat(40).as_bytes(), false));
    }
}
