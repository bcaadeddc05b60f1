//! Frames: eight bytes of head, then the body. Control frames have a type, data frames the number of their stream.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::headers::{Headers, Unpacker};

/// Bytes of a frame that is read.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;
const VERSION: u16 = 3;
/// Set in the first byte of a control frame.
const CONTROL: u8 = 0x80;
/// The flag by which a side says that it sends no more on a stream.
pub(super) const FIN: u8 = 1;
const NUMBER: u32 = 0x7fff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// What a client sends.
#[derive(Debug)]
pub(super) enum Frame {
    /// A new stream.
    Open { stream: u32, headers: Headers, fin: bool },
    /// Bytes of a stream.
    Data { stream: u32, bytes: Vec<u8>, fin: bool },
    /// A stream is thrown away.
    Reset { stream: u32 },
    /// Wants the same back.
    Ping { number: u32 },
    /// No new streams will come.
    GoAway,
    /// Nothing that matters here.
    Other,
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_string())
}

/// The next frame; `None` at the end of the connection.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    unpacker: &mut Unpacker,
) -> io::Result<Option<Frame>> {
    let mut head = [0; 8];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let [a, b, c, d, flags, ..] = head;
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(bad("a frame is too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    let fin = flags & FIN != 0;
    if a & CONTROL == 0 {
        return Ok(Some(Frame::Data { stream: u32::from_be_bytes([a, b, c, d]), bytes: body, fin }));
    }
    if u16::from_be_bytes([a & !CONTROL, b]) != VERSION {
        return Err(bad("a frame is of another version of SPDY"));
    }
    let number = |at: usize| -> io::Result<u32> {
        let bytes = body.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(|| bad("a frame is cut off"))
    };
    let block = |from: usize| body.get(from..).ok_or_else(|| bad("a frame is cut off"));
    Ok(Some(match u16::from_be_bytes([c, d]) {
        SYN_STREAM => {
            let stream = number(0)? & NUMBER;
            Frame::Open { stream, headers: unpacker.unpack(block(10)?)?, fin }
        }
        SYN_REPLY | HEADERS => {
            // Unpacked all the same: the blocks of a connection are one compressed stream.
            unpacker.unpack(block(4)?)?;
            Frame::Other
        }
        RST_STREAM => Frame::Reset { stream: number(0)? & NUMBER },
        PING => Frame::Ping { number: number(0)? },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let [_, b, c, d] = (body.len() as u32).to_be_bytes();
    let [v, w] = VERSION.to_be_bytes();
    let [k, l] = kind.to_be_bytes();
    [&[v | CONTROL, w, k, l, flags, b, c, d], body].concat()
}

/// A stream was taken.
pub(super) fn reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_REPLY, 0, &[&stream.to_be_bytes(), block].concat())
}

/// A stream was refused, or is thrown away. Status 3: refused, 5: cancelled.
pub(super) fn reset(stream: u32, status: u32) -> Vec<u8> {
    control(RST_STREAM, 0, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
}

/// The answer to a ping.
pub(super) fn ping(number: u32) -> Vec<u8> {
    control(PING, 0, &number.to_be_bytes())
}

/// Bytes of a stream.
pub(super) fn data(stream: u32, bytes: &[u8], fin: bool) -> Vec<u8> {
    let [_, b, c, d] = (bytes.len() as u32).to_be_bytes();
    [&stream.to_be_bytes()[..], &[if fin { FIN } else { 0 }, b, c, d], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_a_client_sends_is_a_frame_or_an_error() {
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes: Vec<u8> = (0..random.usize(0..400)).map(|_| random.u8(..)).collect();
            if random.bool() && bytes.len() > 8 {
                // Often enough something that begins like a control frame.
                bytes[..8].copy_from_slice(&[0x80, 3, 0, random.u8(0..10), 0, 0, 0, random.u8(..)]);
            }
            let (mut from, mut unpacker) = (bytes.as_slice(), Unpacker::new());
            while let Ok(Some(_)) = read(&mut from, &mut unpacker).await {}
        }
    }

    #[tokio::test]
    async fn frames_of_ours_are_read_back_and_long_ones_are_refused() {
        let mut unpacker = Unpacker::new();
        let block = crate::spdy::headers::empty_block(true);
        let bytes = [data(7, b"abc", true), ping(9), reset(7, 5), reply(7, &block)].concat();
        let mut from = bytes.as_slice();
        let mut next = async || read(&mut from, &mut unpacker).await.unwrap();
        assert!(matches!(next().await, Some(Frame::Data { stream: 7, bytes, fin: true }) if bytes == b"abc"));
        assert!(matches!(next().await, Some(Frame::Ping { number: 9 })));
        assert!(matches!(next().await, Some(Frame::Reset { stream: 7 })));
        assert!(matches!(next().await, Some(Frame::Other)));
        assert!(next().await.is_none());
        let long = [0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
        assert!(read(&mut long.as_slice(), &mut Unpacker::new()).await.is_err());
    }
}
