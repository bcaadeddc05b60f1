//! How things look: colours where the terminal wants them, symbols, tables padded as kubectl pads them.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use unicode_width::UnicodeWidthStr;

use crate::cli::Color;

static COLORED: AtomicBool = AtomicBool::new(false);

/// Decides once whether stderr is coloured: the flag, then `NO_COLOR` and `CLICOLOR_FORCE`, then the terminal.
pub(crate) fn set_up(color: Color) {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let colored = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto if set("CLICOLOR_FORCE") => true,
        Color::Auto => std::io::stderr().is_terminal(),
    };
    COLORED.store(colored, Ordering::Relaxed);
}

fn paint(code: &str, text: &str) -> String {
    match COLORED.load(Ordering::Relaxed) {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

pub(crate) fn green(text: &str) -> String {
    paint("32", text)
}

pub(crate) fn red(text: &str) -> String {
    paint("31", text)
}

pub(crate) fn yellow(text: &str) -> String {
    paint("33", text)
}

pub(crate) fn dim(text: &str) -> String {
    paint("2", text)
}

/// Rows under a header, columns padded to their widest cell and three spaces apart.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (index, cell) in cells.iter().enumerate() {
            text.push_str(cell);
            if index + 1 < cells.len() {
                text.push_str(&" ".repeat(widths[index] - cell.width() + 3));
            }
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}
