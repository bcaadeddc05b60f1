//! "did you mean": the known name nearest to an unknown one.

/// Longer names are not compared.
const NAME_CHARS_MAX: usize = 64;

/// The known name that was probably meant; `None` if none is near. Case, `-` and `_` count little, so `nodeport` and
/// `node_port` find `nodePort`; otherwise about one mistake in three characters is forgiven.
pub fn suggest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normalize(unknown)?;
    let mut best: Option<(usize, &'a str)> = None;
    for name in known {
        let Some(candidate) = normalize(name) else { continue };
        let distance = distance(&wanted, &candidate);
        let allowed = (wanted.len().max(candidate.len()) / 3).max(1);
        if distance <= allowed
            && distance < wanted.len().max(candidate.len())
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

fn normalize(name: &str) -> Option<Vec<char>> {
    let characters: Vec<char> = name
        .chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
        .take(NAME_CHARS_MAX + 1)
        .collect();
    (!characters.is_empty() && characters.len() <= NAME_CHARS_MAX).then_some(characters)
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
