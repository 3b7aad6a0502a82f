//! Highlights the line while it is typed.
//!
//! In: the line, the known names. Out: its tokens with styles. Existing names stand out, so that the user
//! sees a misspelled one before the line runs. Must not know: the terminal.

use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

use super::known::{Known, Names};
use super::lex::{Kind, Token, tokens};

/// Styles statements of the REPL.
pub struct Highlight(pub Names);

impl Highlighter for Highlight {
    fn highlight(&self, line: &str, _: usize) -> StyledText {
        styled(line, &self.0.modules())
    }
}

fn styled(line: &str, known: &Known) -> StyledText {
    let tokens = tokens(line);
    let mut text = StyledText::new();
    let mut begins = true;
    for (place, token) in tokens.iter().enumerate() {
        let shown = &line[token.span.clone()];
        text.push((style(shown, token, &tokens[place + 1..], begins, known), shown.to_owned()));
        // A name after a dot or a version belongs to the name before it.
        begins = !matches!(token.kind, Kind::Mark('.') | Kind::Version);
    }
    text
}

fn style(shown: &str, token: &Token, after: &[Token], begins: bool, known: &Known) -> Style {
    let plain = Style::new();
    match token.kind {
        Kind::Comment => plain.fg(Color::DarkGray),
        Kind::Number | Kind::Version => plain.fg(Color::Magenta),
        Kind::Quoted => plain.fg(Color::Green),
        Kind::Word => match (begins, shown) {
            (true, "Node" | "Module" | "help" | "exit" | "quit") => plain.fg(Color::Cyan).bold(),
            (true, "true" | "false" | "some" | "none" | "ok" | "err" | "inf" | "nan") => {
                plain.fg(Color::Magenta)
            }
            (true, name) if known.is_callable(name) => plain.fg(Color::Blue).bold(),
            (true, _) => plain,
            // The function, not the module.
            (false, _) if after.first().is_some_and(|next| next.kind == Kind::Mark('(')) => {
                plain.fg(Color::Yellow)
            }
            (false, _) => plain,
        },
        Kind::Space | Kind::Mark(_) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repl::assist::complete::tests::known;

    #[test]
    fn what_there_is_stands_out() {
        let text = styled("math.add(mth.x(\"a\"), 1) // x", &known());
        let colour =
            |wanted: &str| text.buffer.iter().find(|(_, shown)| shown == wanted).unwrap().0.foreground;
        assert_eq!(colour("math"), Some(Color::Blue));
        assert_eq!(colour("add"), Some(Color::Yellow));
        assert_eq!(colour("mth"), None, "nothing is called so");
        assert_eq!(colour("\"a\""), Some(Color::Green));
        assert_eq!(colour("1"), Some(Color::Magenta));
        assert_eq!(colour("// x"), Some(Color::DarkGray));
        let whole: String = text.buffer.into_iter().map(|(_, shown)| shown).collect();
        assert_eq!(whole, "math.add(mth.x(\"a\"), 1) // x");
    }
}
