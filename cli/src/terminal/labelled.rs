//! Labels with texts beside them, in lines of at most 80 columns.

/// Width of the column of labels.
const LABEL_WIDTH: usize = 12;
/// Width of a text beside a label.
const TEXT_WIDTH: usize = 80 - LABEL_WIDTH;

/// Appends a label with its text, which is broken between words.
pub(crate) fn push(out: &mut String, label: &str, text: &str) {
    let mut line = format!("{label:<LABEL_WIDTH$}");
    let mut is_empty = true;

    for word in text.split(' ') {
        let width = line.chars().count() - LABEL_WIDTH + word.chars().count();
        if !is_empty && width + 1 > TEXT_WIDTH {
            push_line(out, &line);
            line = " ".repeat(LABEL_WIDTH);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    push_line(out, &line);
}

/// Appends a line without the spaces at its end.
pub(crate) fn push_line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}
