use super::*;
use crate::testing::{Random, golden};

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks();
    values.iter().copied().map(f32::from_le_bytes).collect()
}

/// The blocks of `values`, which need not fill the last one; the same at
/// every level if values are finite.
fn blocks(quantizer: Quantizer, values: &[f32]) -> Vec<u8> {
    let mut values = values.to_vec();
    values.resize(
        values
            .len()
            .next_multiple_of(quantizer.format().block_elements()),
        0.0,
    );
    let size = quantizer
        .format()
        .row_bytes(values.len())
        .expect("whole blocks");
    let of_level = |level| {
        let mut bytes = vec![0xaa; size];
        quantizer.quantize(level, &values, &mut bytes);
        bytes
    };
    let mut all = Level::available().map(|level| (level, of_level(level)));
    let (_, first) = all.next().expect("a level");
    for (level, other) in all {
        let same = other == first || values.iter().any(|value| !value.is_finite());
        assert!(same, "{} {level}", quantizer.format().name());
    }
    first
}

fn round_trip(quantizer: Quantizer, values: &[f32]) -> Vec<f32> {
    let mut found = vec![0.0; values.len()];
    quantizer
        .format()
        .dequantize(&blocks(quantizer, values), &mut found);
    found
}

#[test]
fn blocks_equal_those_of_ggml_to_the_bit() {
    let Some(folder) = golden() else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).expect("golden file");
    let input = floats(&read("input.f32"));
    for &quantizer in QUANTIZERS.iter().filter(|q| q.format() != Format::F32) {
        let name = quantizer.format().name();
        let expected = read(&format!("{name}.bin"));
        let found = blocks(quantizer, &input);
        assert_eq!(found.len(), expected.len(), "{name}");
        let first = found.iter().zip(&expected).position(|(a, b)| a != b);
        let block = first.map(|byte| byte / quantizer.format().block_bytes());
        assert_eq!(block, None, "{name}: the first block that differs");
    }
}

#[test]
fn values_come_back_with_the_error_of_their_format() {
    let values = Random(7).floats(4096);
    // Root of the mean square, relative, of uniform values: half the step over the square root of 3
    // with the obvious scale, which the searches must not exceed by much.
    for (format, bound) in [
        (Format::F32, 0.0),
        (Format::F16, 3e-4),
        (Format::BF16, 3e-3),
        (Format::Q4_0, 0.066),
        (Format::Q4_1, 0.066),
        (Format::Q5_0, 0.033),
        (Format::Q5_1, 0.033),
        (Format::Q8_0, 0.0042),
        (Format::Q2_K, 0.30),
        (Format::Q3_K, 0.14),
        (Format::Q4_K, 0.066),
        (Format::Q5_K, 0.033),
        (Format::Q6_K, 0.017),
    ] {
        let quantizer = format.quantizer().expect("a quantiser");
        let found = round_trip(quantizer, &values);
        let square = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>()
        };
        let errors = &mut values.iter().zip(&found).map(|(a, b)| a - b);
        let error = (square(errors) / square(&mut values.iter().copied())).sqrt();
        assert!(error <= bound, "{}: {error}", format.name());
    }
}

#[test]
fn zeros_stay_zeros() {
    for &quantizer in QUANTIZERS {
        let found = round_trip(quantizer, &[0.0; 256]);
        assert_eq!(found, [0.0; 256], "{}", quantizer.format().name());
    }
}

#[test]
fn no_value_stops_a_quantiser() {
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        1e-20,
    ];
    for &quantizer in QUANTIZERS {
        for value in odd {
            blocks(quantizer, &[value; 256]);
            let mut values = Random(1).floats(256);
            values[17] = value;
            blocks(quantizer, &values);
        }
    }
}
