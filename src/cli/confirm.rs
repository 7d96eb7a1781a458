//! Asking before something that can't be taken back.

use std::io::{IsTerminal, Write};

use varu::error::{Error, Result};

/// Asks whether to go on; `yes` answers for a script. What is going to happen has been said.
pub fn go_on(yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let refused = |message: &str| Error::Refused(message.to_owned());
    if !std::io::stdin().is_terminal() {
        return Err(refused("there is no terminal to ask on; --yes answers for a script"));
    }
    let mut answer = String::new();
    let _ = write!(std::io::stderr(), "Go on? Type yes: ");
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(refused("nothing was done")),
    }
}
