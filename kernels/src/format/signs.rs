//! Signs of the IQ formats that are stored as seven bits for eight values: the number of negative
//! values is even, which gives the eighth.

/// The last sign of each eight in the topmost bit of its byte, where the seven others are below it.
#[inline(always)]
pub(super) fn even(sevens: u64) -> u64 {
    let fours = sevens ^ sevens >> 4;
    let twos = fours ^ fours >> 2;
    let ones = twos ^ twos >> 1;
    // The lowest bit of a byte is the parity of the byte: those from the byte above come to higher ones.
    sevens | (ones & 0x0101_0101_0101_0101) << 7
}

/// The four sevens in the low 28 bits of each of two numbers, each in a byte of its own.
#[inline(always)]
pub(super) fn spread([first, second]: [u32; 2]) -> u64 {
    let both = u64::from(first) | u64::from(second) << 32;
    both & 0x0000_007f_0000_007f
        | both << 1 & 0x0000_7f00_0000_7f00
        | both << 2 & 0x007f_0000_007f_0000
        | both << 3 & 0x7f00_0000_7f00_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_eight_has_an_even_number_of_signs_and_keeps_its_seven() {
        for seven in 0..128_u32 {
            let number = seven | (127 - seven) << 7 | seven << 14 | (seven ^ 1) << 21;
            let bytes = even(spread([number, number ^ 0xf000_0007])).to_le_bytes();
            let sevens = [seven, 127 - seven, seven, seven ^ 1];
            for (i, byte) in bytes.into_iter().enumerate() {
                let expected = sevens[i % 4] ^ if i == 4 { 7 } else { 0 };
                assert_eq!(u32::from(byte & 127), expected, "{number:#x}, byte {i}");
                assert_eq!(byte.count_ones() % 2, 0, "{number:#x}, byte {i}");
            }
        }
    }
}
