//! Keys of the screen in the events of the terminal.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::Key;

/// The keys of an event of the terminal. A new size needs no more than the next drawing.
pub(super) fn of(event: &Event) -> Vec<Key> {
    let Event::Key(event) = event else { return Vec::new() };
    if event.kind == KeyEventKind::Release {
        return Vec::new();
    }
    // A terminal sends Alt with a key as Escape before it: Escape and a quick key after it are read
    // as Alt.
    let escape = event.modifiers.contains(KeyModifiers::ALT).then_some(Key::Escape);
    escape.into_iter().chain(key(*event)).collect()
}

fn key(event: KeyEvent) -> Option<Key> {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    match event.code {
        KeyCode::Char('c') if control => Some(Key::Interrupt),
        KeyCode::Char(character) if !control => Some(Key::Char(character)),
        KeyCode::Backspace => Some(Key::Backspace),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        KeyCode::Home => Some(Key::Home),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(code: KeyCode, modifiers: KeyModifiers) -> Vec<Key> {
        of(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn escape_and_a_quick_key_are_two_keys() {
        let q = KeyCode::Char('q');
        assert_eq!(pressed(q, KeyModifiers::NONE), [Key::Char('q')]);
        assert_eq!(pressed(q, KeyModifiers::ALT), [Key::Escape, Key::Char('q')]);
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), [Key::Interrupt]);
        assert_eq!(pressed(q, KeyModifiers::CONTROL), []);
        assert_eq!(of(&Event::Resize(60, 10)), []);
    }
}
