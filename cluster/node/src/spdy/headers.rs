//! Header blocks: pairs of names and values, compressed with zlib over the whole connection, with a dictionary that
//! the protocol fixes. Blocks are read as any deflate; ours are written uncompressed, in stored blocks, which every
//! reader of deflate takes.

use std::io;
use std::sync::OnceLock;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Bytes of one block of headers when unpacked.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Pairs in one block.
const PAIRS_MAX: usize = 128;
/// Bytes of text that deflate can refer back to.
const WINDOW_BYTES: usize = 32 * 1024;
/// zlib's second byte says with this bit that a dictionary is used.
const USES_DICTIONARY: u8 = 0x20;

/// Words of the dictionary that stand with their length before them.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// The rest of the dictionary.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 \
    Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
    Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,\
    sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// Names in lower case, with their values.
pub(crate) type Headers = Vec<(String, String)>;

fn dictionary() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut bytes = Vec::new();
        for word in WORDS.split_whitespace() {
            let word = word.replace('_', " ");
            bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
            bytes.extend_from_slice(word.as_bytes());
        }
        bytes.extend_from_slice(TAIL.as_bytes());
        bytes
    })
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_string())
}

/// Unpacks the blocks that a client sends, in their order.
pub(super) struct Unpacker {
    state: Box<DecompressorOxide>,
    /// What was unpacked last, as a ring.
    window: Vec<u8>,
    at: usize,
    started: bool,
}

impl Unpacker {
    pub(super) fn new() -> Unpacker {
        let mut window = dictionary().to_vec();
        let at = window.len();
        window.resize(WINDOW_BYTES, 0);
        Unpacker { state: Box::default(), window, at, started: false }
    }

    /// The headers of one block.
    pub(super) fn unpack(&mut self, block: &[u8]) -> io::Result<Headers> {
        let block = if self.started { block } else { self.start(block)? };
        parse(&self.inflate(block)?)
    }

    /// zlib's own header, before the first block.
    fn start<'a>(&mut self, block: &'a [u8]) -> io::Result<&'a [u8]> {
        let [method, flags, rest @ ..] = block else { return Err(bad("a block of headers is cut off")) };
        if method & 0x0f != 8 || (u16::from(*method) * 256 + u16::from(*flags)) % 31 != 0 {
            return Err(bad("a block of headers is not zlib"));
        }
        self.started = true;
        if flags & USES_DICTIONARY == 0 {
            return Ok(rest);
        }
        rest.get(4..).ok_or_else(|| bad("a block of headers is cut off"))
    }

    fn inflate(&mut self, mut block: &[u8]) -> io::Result<Vec<u8>> {
        let mut unpacked = Vec::new();
        loop {
            let (status, read, written) =
                decompress(&mut self.state, block, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            unpacked.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW_BYTES;
            block = &block[read..];
            if unpacked.len() > BLOCK_BYTES_MAX {
                return Err(bad("a block of headers is too long"));
            }
            match status {
                TINFLStatus::NeedsMoreInput | TINFLStatus::Done => return Ok(unpacked),
                TINFLStatus::HasMoreOutput => {}
                _ => return Err(bad("a block of headers is not deflate")),
            }
        }
    }
}

fn parse(block: &[u8]) -> io::Result<Headers> {
    let mut rest = block;
    let count = number(&mut rest)?;
    if count > PAIRS_MAX {
        return Err(bad("too many headers"));
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = text(&mut rest)?.to_ascii_lowercase();
        headers.push((name, text(&mut rest)?));
    }
    Ok(headers)
}

fn number(rest: &mut &[u8]) -> io::Result<usize> {
    let (first, after) = rest.split_first_chunk().ok_or_else(|| bad("a block of headers is cut off"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*first) as usize)
}

fn text(rest: &mut &[u8]) -> io::Result<String> {
    let length = number(rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or_else(|| bad("a block of headers is cut off"))?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| bad("a header is not text"))
}

/// Packs the empty block: all that a server's answers need. `first` of a connection begins zlib's stream.
pub(super) fn empty_block(first: bool) -> Vec<u8> {
    let zlib: &[u8] = if first { &[0x78, 0x01] } else { &[] };
    // A stored block with a count of 0, and an empty stored one, which tells readers to give out what they have.
    [zlib, &[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0], &[0, 0, 0, 0xff, 0xff]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        // Its Adler-32, which zlib puts into the stream.
        assert_eq!((dictionary().len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    /// Blocks as zlib writes them with the dictionary, the second and third going on where the one before ended.
    #[test]
    fn blocks_of_one_connection_are_read_one_after_the_other() {
        let blocks = [
            "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c6061606100a4398b20d198094ade8c0600000000ffff",
            "c2aa19540e2512d60b000000ffff",
            "02120c00000000ffff",
        ];
        let mut unpacker = Unpacker::new();
        let mut read = |block: &str| unpacker.unpack(&hex::decode(block).unwrap()).unwrap();
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let common = [pair("port", "8080"), pair("requestid", "0")];
        assert_eq!(read(blocks[0])[0], pair("streamtype", "error"));
        let second = read(blocks[1]);
        assert_eq!((&second[0], &second[1..]), (&pair("streamtype", "data"), &common[..]));
        assert_eq!(read(blocks[2]), []);
    }

    #[test]
    fn blocks_that_are_no_zlib_no_deflate_cut_off_or_bombs_are_refused() {
        let mut bomb = vec![0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2];
        for _ in 0..3 {
            bomb.extend_from_slice(&[0, 0xff, 0xff, 0, 0]);
            bomb.extend_from_slice(&[7; 65535]);
        }
        for block in [&[][..], &[1, 2, 3], &[0x78, 0x01, 0xff, 0xff], &[0x78, 0xf9, 1], &bomb] {
            assert!(Unpacker::new().unpack(block).is_err());
        }
        assert_eq!(Unpacker::new().unpack(&empty_block(true)).unwrap(), []);
    }
}
