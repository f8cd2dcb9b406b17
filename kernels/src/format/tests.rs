use super::*;
use crate::testing::{NaiveMatrix, golden, levels};

#[test]
fn dequantised_values_equal_the_golden_ones_to_the_bit() {
    let Some(folder) = golden() else { return };
    for &format in Format::ALL.iter().filter(|format| **format != Format::F32) {
        for name in ["", ".rnd"] {
            let read = |kind: &str| {
                std::fs::read(folder.join(format!("{}{name}.{kind}", format.name())))
                    .expect("golden file")
            };
            let expected: Vec<f32> = read("f32")
                .as_chunks()
                .0
                .iter()
                .map(|value| f32::from_le_bytes(*value))
                .collect();
            let mut values = vec![0.0; expected.len()];
            format.dequantize(&read("bin"), &mut values);
            let bits = |values: &[f32]| {
                values
                    .iter()
                    .map(|value| value.to_bits())
                    .collect::<Vec<_>>()
            };
            assert_eq!(bits(&values), bits(&expected), "{}{name}", format.name());
        }
    }
}

/// What a kernel reads of a unit, put together as the format's documentation says.
struct Values<'a, F: QuantFormat>(&'a F::Unit);

impl<F: QuantFormat> crate::simd::Kernel for Values<'_, F> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let store = |floats: S::Floats| {
            let mut values = [0.0; 16];
            simd.store(floats, &mut values);
            values
        };
        let scales = store(F::scales(simd, self.0));
        let mins = if F::SUB == 32 {
            std::array::from_fn(|i| scales[8 + i % 8])
        } else {
            store(F::mins(simd, self.0))
        };
        let mut values = vec![0.0; UNIT];
        for half in 0..2 {
            let mut quants = [[0; 64]; 2];
            for (quants, vector) in quants.iter_mut().zip(F::quants(simd, self.0, half)) {
                simd.store_bytes(vector, quants);
            }
            let quants: [[u8; 16]; 8] = bytemuck::cast(quants);
            for (quants, sixteen) in quants.into_iter().zip(F::ORDER.sixteens()) {
                let first = HALF * half + 16 * sixteen;
                let (scale, min) = (scales[first / F::SUB], mins[first / F::SUB]);
                for (value, quant) in values[first..].iter_mut().zip(quants) {
                    let quant = if F::Quants::SIGNED {
                        f32::from(quant as i8)
                    } else {
                        f32::from(quant)
                    };
                    *value = scale * (quant - F::OFFSET as f32) + F::MINS.sign() * min;
                }
            }
        }
        values
    }
}

struct Compare(Format, crate::Level);

impl FormatVisitor for Compare {
    type Output = ();
    fn quants<F: QuantFormat>(self) {
        let Self(format, level) = self;
        let matrix = NaiveMatrix::random(format, 40, UNIT);
        for row in 0..40 {
            let unit = bytemuck::pod_read_unaligned::<F::Unit>(matrix.view().row(row));
            let mut expected = vec![0.0; UNIT];
            format.dequantize(matrix.view().row(row), &mut expected);
            assert_eq!(
                level.run(Values::<F>(&unit)),
                expected,
                "{} {level}",
                format.name()
            );
        }
    }
    fn packed<F: PackedFormat>(self) {
        let Self(format, level) = self;
        let matrix = NaiveMatrix::random(format, 40, UNIT);
        let mut units = Vec::new();
        unpack_rows::<F>(level, matrix.view(), &mut units);
        for (row, unit) in units.iter().enumerate() {
            let mut expected = vec![0.0; UNIT];
            format.dequantize(matrix.view().row(row), &mut expected);
            assert_eq!(
                level.run(Values::<F::Unpacked>(unit)),
                expected,
                "{} {level}",
                format.name()
            );
        }
    }
    fn floats<F: FloatFormat>(self) {}
}

#[test]
fn quants_scales_and_mins_make_the_dequantised_values_at_every_level() {
    for level in levels() {
        for &format in Format::ALL {
            format.visit(Compare(format, level));
        }
    }
}

#[test]
fn numbers_and_names_lead_back_to_the_format() {
    for &format in Format::ALL {
        assert_eq!(Format::from_ggml_type(format.ggml_type()), Some(format));
    }
    assert_eq!(Format::from_ggml_type(4), None, "Q4_2 was removed");
    assert_eq!(Format::Q4_K.row_bytes(512), Some(288));
    assert_eq!(Format::Q4_K.row_bytes(32), None);
}
