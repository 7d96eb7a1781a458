//! Comparison of the contents of two servers.

use std::collections::BTreeMap;

/// Objects by their names, each with all that tells it from another.
pub type Picture = BTreeMap<String, String>;

/// A client's output, split at lines `@@ NAME` with the name of the next object.
pub fn cut(text: &str) -> Picture {
    let mut picture = Picture::new();
    let mut name = String::new();
    for line in text.lines() {
        match line.strip_prefix("@@ ") {
            Some(next) => {
                name = next.to_owned();
                picture.entry(name.clone()).or_default();
            }
            None => *picture.entry(name.clone()).or_default() += &format!("{line}\n"),
        }
    }
    picture
}

/// The names of the objects that aren't the same.
pub fn differences(was: &Picture, is: &Picture) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    names.into_iter().filter(|name| was.get(*name) != is.get(*name)).cloned().collect()
}

/// The differences, in a few lines.
pub fn told(name: &str, was: &Picture, is: &Picture) -> String {
    let lines = |picture: &Picture| picture.get(name).map_or("(absent)".to_owned(), Clone::clone);
    let (was, is) = (lines(was), lines(is));
    let at = was.bytes().zip(is.bytes()).position(|(was, is)| was != is).unwrap_or(was.len().min(is.len()));
    let near = |text: &str| {
        let bytes = &text.as_bytes()[at.saturating_sub(60).min(text.len())..];
        String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
    };
    format!("{name}\n  was …{}\n  is  …{}", near(&was), near(&is))
}
