//! Runs a command in a Pod through the API's `exec`, with the caller's terminal or pipes, and gives its exit code.

use std::io::IsTerminal;

use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, TerminalSize};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Context, Failure, OWN_TROUBLE, Result};

/// Buffer of one stream, bytes.
const BUFFER_BYTES: usize = 8192;

/// Runs `command` in the Pod's first container.
pub(crate) async fn exec(api: &Api<Pod>, pod: &str, command: &[String]) -> Result<u8> {
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let params = AttachParams { stdin: true, stdout: true, stderr: !tty, tty, ..AttachParams::default() };
    let trouble = |error: &dyn std::fmt::Display| {
        Failure::new(OWN_TROUBLE, format!("cannot run a command in pod `{pod}`: {error}"))
    };
    let mut process =
        api.exec(pod, command, &params).await.map_err(|error| trouble(&dodai_kit::chain(&error)))?;
    let raw = tty.then(Raw::enter).transpose().context("cannot use the terminal")?;
    let resizing = process.terminal_size().map(|sizes| tokio::spawn(resize(sizes)));
    let input = process.stdin().map(|stdin| tokio::spawn(send_input(stdin)));
    let out = process.stdout().map(|stdout| tokio::spawn(copy(stdout, tokio::io::stdout())));
    let err = process.stderr().map(|stderr| tokio::spawn(copy(stderr, tokio::io::stderr())));
    let status = process.take_status();
    for output in [out, err].into_iter().flatten() {
        let _ = output.await;
    }
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    for task in [input, resizing].into_iter().flatten() {
        task.abort();
    }
    drop(raw);
    let status = status.ok_or_else(|| trouble(&"the connection ended before the command did"))?;
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
    let code = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.as_deref()?.parse::<i32>().ok());
    match code {
        Some(code) => Ok(u8::try_from(code).unwrap_or(1)),
        None => Err(trouble(&status.message.unwrap_or_default())),
    }
}

async fn send_input(mut stdin: impl tokio::io::AsyncWrite + Unpin) {
    let mut from = tokio::io::stdin();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(read) if read > 0 => {
                if stdin.write_all(&buffer[..read]).await.is_err() || stdin.flush().await.is_err() {
                    return;
                }
            }
            _ => {
                let _ = stdin.shutdown().await;
                return;
            }
        }
    }
}

async fn copy(mut from: impl tokio::io::AsyncRead + Unpin, mut to: impl tokio::io::AsyncWrite + Unpin) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

async fn resize(mut sizes: futures::channel::mpsc::Sender<TerminalSize>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some(size) = size()
            && sizes.send(size).await.is_err()
        {
            return;
        }
        changes.recv().await;
    }
}

fn size() -> Option<TerminalSize> {
    // SAFETY: an all-zero winsize is valid, and the ioctl writes no more than one.
    let (result, size) = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size), size)
    };
    (result == 0).then_some(TerminalSize { width: size.ws_col, height: size.ws_row })
}

/// The terminal in raw mode; restored when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> nix::Result<Raw> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
