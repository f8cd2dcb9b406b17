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
        let (scales, mins) = (store(F::scales(simd, self.0)), store(F::mins(simd, self.0)));
        (0..4)
            .flat_map(|chunk| {
                let mut quants = [0; 64];
                simd.store_bytes(F::quants(simd, self.0, chunk), &mut quants);
                quants
            })
            .enumerate()
            .map(|(i, quant)| {
                let quant = if F::Quants::SIGNED {
                    f32::from(quant as i8)
                } else {
                    f32::from(quant)
                };
                scales[i / F::SUB] * (quant - F::OFFSET as f32) - mins[i / F::SUB]
            })
            .collect()
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
