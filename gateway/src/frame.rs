//! gRPC's length-prefixed messages.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::room::{NoRoom, Reservation};

/// Length of the prefix: a flag and four bytes of length.
pub(crate) const PREFIX: usize = 5;

/// A reply that is not what gRPC allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("message is larger than the limit")]
    TooLarge,
    #[error("message is compressed although that was not offered")]
    Compressed,
    #[error("message is cut off")]
    CutOff,
    #[error("the gateway holds as many messages as it may")]
    NoRoom,
}

impl From<NoRoom> for FrameError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Fills in the prefix of a message that was written after [`PREFIX`] bytes of room.
pub(crate) fn seal(mut message: Vec<u8>) -> Bytes {
    let length = u32::try_from(message.len().saturating_sub(PREFIX)).unwrap_or(u32::MAX);
    for (slot, byte) in message.iter_mut().skip(1).zip(length.to_be_bytes()) {
        *slot = byte;
    }
    Bytes::from(message)
}

/// Room for the prefix.
pub(crate) fn open(capacity: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(capacity + PREFIX);
    message.put_bytes(0, PREFIX);
    message
}

/// Takes messages out of what arrives.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    limit: usize,
    reserved: Reservation,
}

impl Frames {
    pub(crate) fn new(limit: usize, reserved: Reservation) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            reserved,
        }
    }

    pub(crate) fn push(&mut self, data: &Bytes) -> Result<(), FrameError> {
        self.reserved.clear();
        self.reserved.take(self.buffer.len() + data.len())?;
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Nothing of a message is left over.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((flag, length)) = prefix(&self.buffer) else {
            return Ok(None);
        };
        if length > self.limit {
            return Err(FrameError::TooLarge);
        }
        if flag != 0 {
            return Err(FrameError::Compressed);
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The one message of a unary body.
pub(crate) fn single(mut body: Bytes) -> Result<Bytes, FrameError> {
    match prefix(&body) {
        Some((0, length)) if body.len() == PREFIX + length => {
            body.advance(PREFIX);
            Ok(body)
        }
        Some((1.., _)) => Err(FrameError::Compressed),
        _ => Err(FrameError::CutOff),
    }
}

fn prefix(bytes: &[u8]) -> Option<(u8, usize)> {
    let (flag, rest) = bytes.split_first()?;
    let length = rest.first_chunk::<4>()?;
    Some((*flag, u32::from_be_bytes(*length) as usize))
}
