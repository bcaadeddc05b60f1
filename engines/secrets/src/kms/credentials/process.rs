//! `credential_process` of a profile: a program that the person named in the AWS configuration prints credentials.
//!
//! No shell: the line is split into words as the other tools of AWS do. What the program says on stderr is not passed on.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{Credentials, from_json};

/// Longest wait for the program: a person may have to confirm.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Runs the program and reads what it prints.
pub(super) async fn credentials(profile: &str, line: &str) -> Result<Credentials, String> {
    let failed = |what: &str| format!("`credential_process` of the profile `{profile}` {what}");
    let words = words(line).ok_or_else(|| failed("has an open quote"))?;
    let Some((program, arguments)) = words.split_first() else { return Err(failed("is empty")) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(&format!("cannot start `{program}`: {error}")))?;
    let exchange = async {
        let mut text = Zeroizing::new(Vec::new());
        if let Some(output) = child.stdout.take() {
            output.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await?;
        }
        child.wait().await.map(|status| (status, text))
    };
    let (status, text) = match tokio::time::timeout(WAIT_MAX, exchange).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => return Err(failed(&format!("cannot be read: {error}"))),
        Err(_) => return Err(failed("does not end")),
    };
    if !status.success() {
        return Err(failed(&format!("ended with {status}; run `{program}` yourself to see why")));
    }
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| failed("printed no JSON"))?;
    if value["Version"] != 1 {
        return Err(failed("printed another version than 1"));
    }
    let credentials = from_json(&value).map_err(|error| failed(&format!("printed {error}")))?;
    if !credentials.is_alive() {
        return Err(failed("printed credentials that have ended"));
    }
    Ok(credentials)
}

/// The words of a line: separated by blanks, with quotes of both kinds and backslashes as a shell has them.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_line_is_split_as_a_shell_splits_it() {
        let split = |line| words(line).unwrap();
        assert_eq!(split(r#"/opt/bin/x  --role "a b" 'c "d'"#), ["/opt/bin/x", "--role", "a b", "c \"d"]);
        assert_eq!(split(r#"a\ b "c\"d" '' e''f"#), ["a b", "c\"d", "", "ef"]);
        assert!(split("").is_empty());
        assert_eq!(words("a 'b"), None);
    }
}
