//! Whether a definition names its own schema: in a copy under another name it would work on the original.

use super::filter::{Made, Step};
use crate::source::mysql::sql::tokens::{TokenCursor, TokenKind};

/// Words behind which a table or a routine is named.
const BEFORE_NAMES: [&str; 12] =
    ["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "CALL", "REFERENCES", "EXISTS", "TRUNCATE", "FOR", "IGNORE", "REPLACE"];

/// Whether a step that makes something names `schema` before an object's name, where that can't be a column of a table or
/// an alias of that name. `objects` are the tables and routines of the schema.
pub(super) fn names_schema(step: &Step, schema: &str, objects: &[String]) -> bool {
    let Some(Made { reading, .. }) = &step.makes else { return false };
    let Ok(tokens) = reading.tokens(&step.text) else { return true };
    let tokens: Vec<_> = tokens.into_iter().filter(|token| token.kind != TokenKind::Comment).collect();
    let cursor = TokenCursor::new(reading.charset, &step.text, &tokens);
    let name = |at: usize| cursor.named(tokens.get(at)?);
    let sign = |at: usize, sign: u8| tokens.get(at).is_some_and(|token| token.kind == TokenKind::Sign(sign));
    let is_schema = |at: usize| name(at).is_some_and(|name| name.eq_ignore_ascii_case(schema));
    // A table or an alias of the schema's own name: then a name before a dot may be its.
    let is_alias = objects.iter().any(|object| object.eq_ignore_ascii_case(schema))
        || (1..tokens.len())
            .any(|at| is_schema(at) && name(at - 1).is_some_and(|word| word.eq_ignore_ascii_case("AS")));
    let in_text = |at: usize| {
        let text = String::from_utf8_lossy(cursor.bytes(&tokens[at])).to_ascii_lowercase();
        let (schema, alone) = (schema.to_ascii_lowercase(), |c: char| c.is_alphanumeric() || matches!(c, '_' | '$'));
        text.match_indices(&schema).any(|(begin, _)| {
            let rest = text[begin + schema.len()..].trim_start_matches('`').trim_start();
            rest.starts_with('.') && !text[..begin].ends_with(alone)
        })
    };
    (0..tokens.len()).any(|at| {
        // A text may be a statement that the routine prepares.
        if tokens[at].kind == TokenKind::Text {
            return in_text(at);
        }
        let before_dot = at > 0 && (sign(at - 1, b'.') || sign(at - 1, b'@'));
        if !is_schema(at) || !sign(at + 1, b'.') || before_dot {
            return false;
        }
        let Some(object) = name(at + 2) else { return true };
        let behind_a_word = at > 0
            && tokens[at - 1].kind == TokenKind::Word
            && name(at - 1).is_some_and(|word| BEFORE_NAMES.iter().any(|known| word.eq_ignore_ascii_case(known)));
        let is_whole = sign(at + 3, b'.') || sign(at + 3, b'(');
        let is_object = objects.iter().any(|known| known.eq_ignore_ascii_case(&object));
        !is_alias || behind_a_word || is_whole || is_object
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mysql::into::filter::Object;
    use crate::source::mysql::sql::session::SqlSession;

    fn names(text: &str, objects: &[&str]) -> bool {
        let made = Made {
            object: Object { kind: "VIEW", name: "v".into() },
            reading: SqlSession::new(101_119, true).reading,
            mode: String::new(),
            charset: String::new(),
            collation: String::new(),
        };
        let step = Step { text: text.as_bytes().to_vec(), makes: Some(made) };
        names_schema(&step, "wiki", &objects.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_definition_that_names_its_schema_is_found() {
        for text in [
            "select 1 from `wiki`.`t`",
            "CALL wiki.pay(1)",
            "INSERT INTO Wiki.t",
            "insert into wiki . p values (1)",
            "insert into wiki/**/.p values (1)",
            "insert into `wiki` -- x\n . `p` values (1)",
            "prepare s from 'drop table wiki.p'",
            "prepare s from 'drop table `wiki`.p'",
            "select a, wiki.f(1)",
            "select wiki.t.a",
        ] {
            assert!(names(text, &["t", "p"]), "{text}");
        }
        assert!(names("select x from a, wiki.t", &["wiki", "t"]) && names("insert into wiki.x select 1", &["wiki"]));
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for text in [
            "select `wiki`.`id` AS `id` from `wiki`",
            "select agama from t",
            "my_wiki.t",
            "`xwiki`.`t`",
            "wiki",
            "select a.wiki.b /* wiki.t */",
            "select 'mywiki.org'",
        ] {
            assert!(!names(text, &["wiki", "t"]), "{text}");
        }
        assert!(!names("select `wiki`.`id` from `t` AS `wiki`", &["t"]));
    }
}
