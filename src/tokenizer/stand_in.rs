//! The 256 printable characters by which GPT-2's vocabulary writes bytes.
//!
//! A byte that is a visible character of Latin-1 stands for itself; the other 68, in order, are
//! the characters from U+0100 on. So a space is `Ġ` and a newline `Ċ`. (From OpenAI's GPT-2 code,
//! `bytes_to_unicode`.)

const FIRST_MOVED: u32 = 0x100;
const MOVED: usize = 68;

const fn is_visible(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The invisible bytes, in order.
const MOVED_BYTES: [u8; MOVED] = {
    let mut bytes = [0; MOVED];
    let (mut byte, mut count) = (0, 0);
    while count < MOVED {
        if !is_visible(byte) {
            bytes[count] = byte;
            count += 1;
        }
        byte = byte.wrapping_add(1);
    }
    bytes
};

const STAND_INS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut byte = 0;
    while byte < 256 {
        chars[byte] = byte as u8 as char;
        byte += 1;
    }
    let mut at = 0;
    while at < MOVED {
        // Always a character; the other arm cannot happen.
        if let Some(moved) = char::from_u32(FIRST_MOVED + at as u32) {
            chars[MOVED_BYTES[at] as usize] = moved;
        }
        at += 1;
    }
    chars
};

/// The character that stands for a byte.
pub(super) fn stand_in(byte: u8) -> char {
    STAND_INS[byte as usize]
}

/// The byte that a character stands for.
pub(super) fn byte_of(stand_in: char) -> Option<u8> {
    match u32::from(stand_in) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(|&byte| is_visible(byte)),
        code => MOVED_BYTES.get((code - FIRST_MOVED) as usize).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_those_of_gpt2() {
        assert_eq!(stand_in(b'a'), 'a');
        assert_eq!(stand_in(b' '), 'Ġ');
        assert_eq!(stand_in(b'\n'), 'Ċ');
        assert_eq!(stand_in(0xad), 'Ń'); // the last one, U+0143
        for byte in 0..=255 {
            assert_eq!(byte_of(stand_in(byte)), Some(byte));
        }
        assert_eq!(byte_of(' '), None);
        assert_eq!(byte_of('\u{144}'), None);
        assert_eq!(byte_of('▁'), None);
    }
}
