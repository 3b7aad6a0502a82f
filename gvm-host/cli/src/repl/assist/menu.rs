//! The menu of completions.
//!
//! In: the menu of the line editor. Out: the same menu, with its own text if there are no suggestions;
//! without colours, it marks the selected suggestion without capital letters. Must not know: what is
//! suggested.

use reedline::{Completer, Editor, Menu, MenuEvent, MenuSettings, Painter, Suggestion};

/// The text if there are no suggestions.
const NOTHING: &str = "no completions";

/// A menu of the line editor, with these changes.
pub struct Offered<M>(pub M);

impl<M: Menu> Menu for Offered<M> {
    fn menu_string(&self, available_lines: u16, use_ansi_coloring: bool) -> String {
        if self.0.get_values().is_empty() {
            return NOTHING.to_owned();
        }
        let shown = self.0.menu_string(available_lines, use_ansi_coloring);
        match use_ansi_coloring {
            true => shown,
            false => in_their_letters(&shown, self.0.get_values()),
        }
    }

    fn settings(&self) -> &MenuSettings {
        self.0.settings()
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn clear_input(&mut self) {
        self.0.clear_input();
    }

    fn on_activate(&mut self) {
        self.0.on_activate();
    }

    fn on_deactivate(&mut self) {
        self.0.on_deactivate();
    }

    fn handle_menu_event(&mut self, event: &MenuEvent) {
        self.0.handle_menu_event(event);
    }

    fn menu_event(&mut self, event: MenuEvent) {
        self.0.menu_event(event);
    }

    fn can_quick_complete(&self) -> bool {
        self.0.can_quick_complete()
    }

    fn can_partially_complete(
        &mut self,
        values_updated: bool,
        editor: &mut Editor,
        completer: &mut dyn Completer,
    ) -> bool {
        self.0.can_partially_complete(values_updated, editor, completer)
    }

    fn update_values(&mut self, editor: &mut Editor, completer: &mut dyn Completer) {
        self.0.update_values(editor, completer);
    }

    fn reset_position(&mut self) {
        self.0.reset_position();
    }

    fn reload(&mut self, updated: bool, editor: &mut Editor, completer: &mut dyn Completer) {
        self.0.reload(updated, editor, completer);
    }

    fn update_working_details(
        &mut self,
        editor: &mut Editor,
        completer: &mut dyn Completer,
        painter: &Painter,
    ) {
        self.0.update_working_details(editor, completer, painter);
    }

    fn replace_in_buffer(&self, editor: &mut Editor) {
        self.0.replace_in_buffer(editor);
    }

    fn menu_required_lines(&self, terminal_columns: u16) -> u16 {
        self.0.menu_required_lines(terminal_columns)
    }

    fn min_rows(&self) -> u16 {
        self.0.min_rows()
    }

    fn get_values(&self) -> &[Suggestion] {
        self.0.get_values()
    }

    fn results_are_provisional(&self) -> bool {
        self.0.results_are_provisional()
    }

    fn is_awaiting_first_answer(&self) -> bool {
        self.0.is_awaiting_first_answer()
    }
}

/// Restores the letters of the selected row. Without colours, the line editor marks it with `>` and capital
/// letters, so that the real name is not visible.
fn in_their_letters(shown: &str, values: &[Suggestion]) -> String {
    let row = |row: &str| -> String {
        let Some(capitals) = row.strip_prefix('>') else { return row.to_owned() };
        let is_it = |value: &&Suggestion| {
            let rest = capitals.strip_prefix(&value.value.to_uppercase());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r']))
        };
        let Some(chosen) = values.iter().find(is_it) else { return row.to_owned() };
        let rest = &capitals[chosen.value.to_uppercase().len()..];
        let spaces = &rest[..rest.len() - rest.trim_start_matches(' ').len()];
        let told = chosen.description.as_deref().unwrap_or_default();
        // The menu may have cut the description.
        let room = rest[spaces.len()..].trim_end_matches('\r').chars().count();
        let told: String = told.chars().take(room).collect();
        format!(">{}{spaces}{told}", chosen.value)
    };
    shown.lines().map(row).collect::<Vec<_>>().join("\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_keeps_its_letters() {
        let value = |value: &str, description: &str| Suggestion {
            value: value.into(),
            description: Some(description.into()),
            ..Suggestion::default()
        };
        let values = [value("echo-s8(", "(v: s8) -> s8"), value("echo(", "(v: bool)")];
        let shown = "echo-s8(  (v: s8) -> s8\r\n>ECHO(    (V: BO\r\n";
        assert_eq!(in_their_letters(shown, &values), "echo-s8(  (v: s8) -> s8\r\n>echo(    (v: bo");
        let shown = ">ECHO-S8(  (V: S8) -> S8\r\necho(";
        assert_eq!(in_their_letters(shown, &values), ">echo-s8(  (v: s8) -> s8\r\necho(");
    }
}
