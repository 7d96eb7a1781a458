//! Long results, printed as they are found: lines of text, or one JSON document with a list in it.

use serde::Serialize;
use serde_json::Value;

use super::context::{Context, json_text, plain_json, print};
use super::exit::Failure;
use crate::terminal::human::one_line;

/// Characters that are printed at once.
const PIECE: usize = 64 << 10;

/// A result that is being printed.
pub struct PrintedList {
    json: bool,
    buffer: String,
    is_first: bool,
}

impl PrintedList {
    /// Begins it. A JSON document starts with the fields of `before` and has a list of this name behind them.
    pub fn begin(context: &Context, before: &Value, list: &str) -> Result<Self, Failure> {
        let mut buffer = String::new();
        if context.json {
            let fields = json_text(before)?;
            let open = fields.strip_suffix('}').unwrap_or(&fields);
            buffer = format!("{open},\"{list}\":[");
        }
        Ok(Self { json: context.json, buffer, is_first: true })
    }

    /// Adds an item of the list.
    pub fn document(&mut self, item: &impl Serialize) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.buffer.push(',');
        }
        self.buffer += &json_text(item)?;
        self.spill()
    }

    /// Adds a line of text.
    pub fn text(&mut self, line: &str) -> Result<(), Failure> {
        self.buffer += &one_line(line);
        self.buffer.push('\n');
        self.spill()
    }

    fn spill(&mut self) -> Result<(), Failure> {
        if self.buffer.len() < PIECE {
            return Ok(());
        }
        print(self.buffer.as_bytes())?;
        self.buffer.clear();
        Ok(())
    }

    /// Ends it, a JSON document with the warnings.
    pub fn end(mut self, warnings: &[String]) -> Result<(), Failure> {
        if self.json {
            let warnings = serde_json::to_string(warnings).map_err(|error| Failure::printing(&error.into()))?;
            self.buffer += &format!("],\"warnings\":{}}}\n", plain_json(&warnings));
        }
        print(self.buffer.as_bytes())
    }
}
