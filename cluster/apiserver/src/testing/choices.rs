//! Every decision of a simulated run: drawn from a seed and written on a tape, or read from a tape.
//!
//! 0 always means that nothing happens, so that a tape is shortened by setting parts of it to 0 and looking whether the run
//! still fails.

use std::fmt::Write;

/// Faults per thousand points, one of these per run: few faults reach deep, many reach what happens while recovering.
const RATES: [u32; 4] = [3, 10, 30, 60];

/// A point of a run at which something may go wrong: its place on the tape, and which faults fit (bit n is fault n).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at: usize,
    pub(crate) fits: u32,
}

/// The decisions of one run.
#[derive(Debug)]
pub struct Choices {
    tape: Vec<u32>,
    at: usize,
    rng: Option<fastrand::Rng>,
    /// Faults per thousand points.
    rate: u32,
    /// The faults that this run knows at all.
    known: u32,
    points: Vec<Point>,
}

impl Choices {
    /// Decisions drawn from a seed.
    pub fn of_seed(seed: u64) -> Choices {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rate = RATES[rng.usize(..RATES.len())];
        let known = rng.u32(..) | rng.u32(..);
        Choices { tape: Vec::new(), at: 0, rng: Some(rng), rate, known, points: Vec::new() }
    }

    /// Decisions from a tape; what is beyond its end is 0.
    pub fn of_tape(tape: Vec<u32>) -> Choices {
        Choices { tape, at: 0, rng: None, rate: 0, known: 0, points: Vec::new() }
    }

    /// One of `0..n`.
    pub fn pick(&mut self, n: u32) -> u32 {
        let n = n.max(1);
        self.next(|rng| rng.u32(0..n)) % n
    }

    /// One of the faults in `fits` (bit n is fault n, n from 1), or 0: none. Rarely one.
    pub(crate) fn fault(&mut self, fits: u32) -> u32 {
        self.points.push(Point { at: self.at, fits });
        let (rate, known) = (self.rate, self.known & fits);
        let picked = self.next(|rng| {
            if rng.u32(0..1000) >= rate {
                return 0;
            }
            // Each fault that fits is as likely as the others, and one that the run does not know becomes none.
            let nth = rng.u32(0..fits.count_ones().max(1));
            let fault = (1..32).filter(|bit| fits >> bit & 1 == 1).nth(nth as usize).unwrap_or(0);
            if known >> fault & 1 == 1 { fault } else { 0 }
        });
        if picked < 32 && fits >> picked & 1 == 1 { picked } else { 0 }
    }

    fn next(&mut self, draw: impl FnOnce(&mut fastrand::Rng) -> u32) -> u32 {
        if let Some(rng) = &mut self.rng {
            self.tape.push(draw(rng));
        }
        self.at += 1;
        self.tape.get(self.at - 1).copied().unwrap_or(0)
    }

    pub(crate) fn into_parts(self) -> (Vec<u32>, Vec<Point>) {
        (self.tape, self.points)
    }
}

/// Sets as much of a failing tape to 0 as the failure allows. `fails` runs a tape, `most` times at most.
pub fn shrink(mut tape: Vec<u32>, most: usize, mut fails: impl FnMut(&[u32]) -> bool) -> Vec<u32> {
    let mut tries = 0;
    let mut attempt = |tape: &[u32]| {
        tries += 1;
        tries <= most && fails(tape)
    };
    trim(&mut tape);
    let mut length = tape.len().next_power_of_two();
    while length > 0 {
        let mut start = 0;
        while start < tape.len() {
            let end = (start + length).min(tape.len());
            if tape[start..end].iter().any(|&choice| choice != 0) {
                let mut shorter = tape.clone();
                shorter[start..end].fill(0);
                trim(&mut shorter);
                if attempt(&shorter) {
                    tape = shorter;
                }
            }
            start = end;
        }
        length /= 2;
    }
    tape
}

fn trim(tape: &mut Vec<u32>) {
    while tape.last() == Some(&0) {
        tape.pop();
    }
}

/// A tape as text: numbers, `0*134` for a row of zeros.
pub fn tape_to_text(tape: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = tape;
    while let Some(&first) = rest.first() {
        let row = rest.iter().take_while(|&&choice| choice == first).count();
        let gap = if text.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = match row {
            1 => write!(text, "{gap}{first}"),
            _ => write!(text, "{gap}{first}*{row}"),
        };
        rest = &rest[row..];
    }
    text
}

/// Longest tape that is read.
const TAPE_LEN_MAX: usize = 1 << 20;

/// The tape in a text; lines that begin with `#` are comments.
///
/// # Errors
/// What cannot be read.
pub fn tape_from_text(text: &str) -> Result<Vec<u32>, String> {
    let mut tape = Vec::new();
    for word in text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace) {
        let (number, row) = word.split_once('*').unwrap_or((word, "1"));
        let (Ok(number), Ok(row)) = (number.parse::<u32>(), row.parse::<usize>()) else {
            return Err(format!("`{word}` is no part of a tape, which is numbers and `number*times`"));
        };
        if tape.len().saturating_add(row) > TAPE_LEN_MAX {
            return Err(format!("the tape has more than {TAPE_LEN_MAX} choices"));
        }
        tape.resize(tape.len() + row, number);
    }
    Ok(tape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_gives_the_choices_of_its_seed_again_and_survives_its_text() {
        let run = |mut choices: Choices| {
            let picks: Vec<u32> = (1..200).map(|n| choices.pick(n) + 1000 * choices.fault(0b10110)).collect();
            (picks, choices.into_parts().0)
        };
        for seed in 0..50 {
            let (picks, tape) = run(Choices::of_seed(seed));
            let text = tape_to_text(&tape);
            assert_eq!(run(Choices::of_tape(tape_from_text(&text).unwrap())).0, picks, "seed {seed}: {text}");
        }
        assert!(tape_from_text("1 2*x").is_err() && tape_from_text("0*99999999999").is_err());
    }

    #[test]
    fn shrinking_leaves_only_what_the_failure_needs() {
        let tape: Vec<u32> = (0..500).map(|at| at % 7).collect();
        let mut tries = 0;
        let shrunk = shrink(tape, 300, |tape| {
            tries += 1;
            tape.get(100) == Some(&2) && tape.get(397).is_some_and(|&choice| choice != 0)
        });
        assert_eq!(shrunk.iter().filter(|&&choice| choice != 0).count(), 1 + 1);
        assert!(tries <= 300);
    }
}
