//! A small HTTP/1.1 client that keeps connections, or makes a fresh one each time, and reports every failure.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) struct Client {
    address: String,
    keep: bool,
    connection: Option<BufReader<TcpStream>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(url: &str, keep: bool) -> Client {
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Client { address, keep, connection: None }
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, "", "")
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> io::Result<Answer> {
        self.send("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", body)
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                BufReader::new(stream)
            }
        };
        let close = if self.keep { "" } else { "Connection: close\r\n" };
        let length =
            if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{close}{length}{headers}\r\n{body}",
            self.address
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let (answer, closes) = read(&mut connection)?;
        if self.keep && !closes {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

/// One answer, and whether the server closes after it.
fn read(connection: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let broken = |what: &str| io::Error::other(format!("broken answer: {what}"));
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(broken("closed before the status line"));
    }
    let code =
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| broken("status line"))?;
    let (mut length, mut chunked, mut closes) = (None, false, false);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(broken("closed in the head"));
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse::<usize>().ok(),
            Some(("transfer-encoding", "chunked")) => chunked = true,
            Some(("connection", "close")) => closes = true,
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    let mut body = Vec::new();
    match (chunked, length) {
        (true, _) => loop {
            let mut size = String::new();
            connection.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| broken("chunk size"))?;
            let start = body.len();
            body.resize(start + size, 0);
            connection.read_exact(&mut body[start..])?;
            connection.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        },
        (false, Some(length)) => {
            body.resize(length, 0);
            connection.read_exact(&mut body)?;
        }
        (false, None) => {
            connection.read_to_end(&mut body)?;
            closes = true;
        }
    }
    Ok((Answer { code, body: String::from_utf8_lossy(&body).into_owned() }, closes))
}
