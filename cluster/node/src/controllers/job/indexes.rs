//! Completion indexes as text: `0-2,4`.

use std::collections::BTreeSet;

/// Reads the text; parts that are no index, or not below `end`, are left out.
pub(super) fn parse(text: &str, end: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first.max(0)..=last.min(end - 1));
        }
    }
    indexes
}

/// Writes the text: two neighbours as two numbers, longer runs as a range.
pub(super) fn to_text(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let parts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_upstream_writes_them_and_read_back() {
        for (list, text) in [
            (vec![], ""),
            (vec![0], "0"),
            (vec![0, 1], "0,1"),
            (vec![0, 1, 2, 4], "0-2,4"),
            (vec![1, 3, 4, 5, 9, 10], "1,3-5,9,10"),
        ] {
            let indexes: BTreeSet<i32> = list.into_iter().collect();
            assert_eq!(to_text(&indexes), text);
            assert_eq!(parse(text, 100), indexes);
        }
        assert_eq!(parse("0-9,x,-", 3), [0, 1, 2].into());
    }
}
