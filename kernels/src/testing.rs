//! What the tests compare with: random blocks, products in f64, golden files.

use std::path::PathBuf;

use crate::{Format, Level, Matrix};

/// Every level of this machine, named in the output so that a report shows what ran.
pub(crate) fn levels() -> impl Iterator<Item = Level> {
    Level::available().inspect(|level| println!("level {level}"))
}

/// The folder with ggml's blocks and values, if it is there.
pub(crate) fn golden() -> Option<PathBuf> {
    let shared = std::env::var_os("GRISTMILL_ORACLE").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let folder = shared.join("oracle/quants");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no golden blocks in {}", folder.display());
    None
}

/// A small generator (SplitMix64), so that a failure can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A matrix of random blocks and the slow products with it.
pub(crate) struct NaiveMatrix {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
}

impl NaiveMatrix {
    /// Random bits, but for the f16 scales, which are of ordinary size.
    pub(crate) fn random(format: Format, rows: usize, cols: usize) -> Self {
        Self::new(format, rows, cols, |random| random.bits() as u8)
    }

    /// The same byte everywhere but in the f16 scales.
    pub(crate) fn filled(format: Format, rows: usize, cols: usize, byte: u8) -> Self {
        Self::new(format, rows, cols, |_| byte)
    }

    fn new(format: Format, rows: usize, cols: usize, byte: impl Fn(&mut Random) -> u8) -> Self {
        let mut random = Random(rows as u64 * 131 + cols as u64);
        let mut bytes = Vec::new();
        for _ in 0..rows * cols / format.block_elements() {
            let mut block: Vec<u8> = (0..format.block_bytes())
                .map(|_| byte(&mut random))
                .collect();
            make_scales_ordinary(format, &mut block, &mut random);
            bytes.extend(block);
        }
        Self {
            format,
            rows,
            cols,
            bytes,
        }
    }

    pub(crate) fn view(&self) -> Matrix<'_> {
        Matrix::new(self.format, self.rows, self.cols, &self.bytes).expect("whole rows")
    }

    /// Each row times `input`, and the sum of the magnitudes, in f64.
    pub(crate) fn product(&self, input: &[f32]) -> Vec<(f64, f64)> {
        let mut values = vec![0.0; self.cols];
        (0..self.rows)
            .map(|row| {
                self.view().dequantize_row(row, &mut values);
                let products = values
                    .iter()
                    .zip(input)
                    .map(|(&w, &x)| f64::from(w) * f64::from(x));
                products.fold((0.0, 0.0), |(sum, size), product| {
                    (sum + product, size + product.abs())
                })
            })
            .collect()
    }
}

/// Puts floats and scales of ordinary size into a block of random bits.
fn make_scales_ordinary(format: Format, block: &mut [u8], random: &mut Random) {
    let halves: &[usize] = match format {
        Format::F32 => return block.copy_from_slice(&random.float().to_le_bytes()),
        Format::F16 => {
            return block.copy_from_slice(&half::f16::from_f32(random.float()).to_le_bytes());
        }
        Format::BF16 => {
            return block.copy_from_slice(&half::bf16::from_f32(random.float()).to_le_bytes());
        }
        Format::MXFP4 => {
            block[0] = 120 + (random.bits() % 8) as u8;
            return;
        }
        Format::IQ1_M => {
            // A nibble of the f16 is above each four scales.
            let half = half::f16::from_f32(random.float() * 0.1).to_bits();
            for i in 0..4 {
                let byte = &mut block[49 + 2 * i];
                *byte = *byte & 15 | ((half >> (4 * i)) as u8) << 4;
            }
            return;
        }
        // Scales of eight bits: all sizes are ordinary.
        Format::NVFP4 => return,
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::TQ1_0 => &[52],
        Format::TQ2_0 => &[64],
        Format::Q6_K => &[208],
        _ => &[0],
    };
    for &at in halves {
        let half = half::f16::from_f32(random.float() * 0.1);
        block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
}

/// `input` as int8 blocks of 32 hold it: what an exact product with a quantised matrix sees.
pub(crate) fn through_int8(input: &[f32]) -> Vec<f32> {
    input
        .chunks(32)
        .flat_map(|block| {
            let largest = block
                .iter()
                .fold(0.0_f32, |max, value| max.max(value.abs()));
            let inverse = 127.0 / largest;
            block
                .iter()
                .map(move |value| (value * inverse).round_ties_even() * (largest / 127.0))
        })
        .collect()
}
