//! What this processor does at most, in one thread.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
use std::hint::black_box;
use std::time::Instant;

use gristmill_kernels::Level;

use super::Limit;

/// How often each limit is measured; the best counts.
const ROUNDS: usize = 5;

/// Bytes per second when `bytes` are only added up, one place at a time or four.
pub(crate) fn read(bytes: &[u8]) -> Limit {
    let lines = bytes.as_chunks().0;
    let passes = (1 << 22) / bytes.len() + 1;
    let best = [sum::<1>, sum::<4>].map(|sum| {
        fastest(|| {
            for _ in 0..passes {
                black_box(sum(black_box(lines)));
            }
        })
    });
    Limit {
        per_second: (passes * bytes.len()) as f64 / best[0].min(best[1]),
        what: "what is read when the same bytes are only added up",
    }
}

fn sum<const STREAMS: usize>(lines: &[[u8; 64]]) -> u64 {
    let length = lines.len() / STREAMS;
    let streams: [_; STREAMS] = std::array::from_fn(|index| &lines[index * length..][..length]);
    let mut sums = [0_u64; 8];
    for at in 0..length {
        for stream in streams {
            for (sum, word) in sums.iter_mut().zip(stream[at].as_chunks().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
    }
    sums.iter().fold(0, |sum, part| sum.wrapping_add(*part))
}

/// The seconds of the fastest of some runs.
fn fastest(mut work: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    times.min().unwrap_or_default().as_secs_f64()
}

/// Runs the instructions on each of 12 accumulators, `rounds` times; gives the seconds.
#[cfg(target_arch = "x86_64")]
macro_rules! seconds {
    ($rounds:expr, $instructions:literal) => {
        fastest(|| {
            // SAFETY: the caller's level has the instructions; all registers they write are declared.
            unsafe {
                asm!(
                    "vzeroall",
                    "2:",
                    ".irp acc,0,1,2,3,4,5,6,7,8,9,10,11",
                    $instructions,
                    ".endr",
                    "dec {rounds}",
                    "jnz 2b",
                    "vzeroupper",
                    rounds = inout(reg) $rounds => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    options(nomem, nostack),
                );
            }
        })
    };
}

#[cfg(target_arch = "x86_64")]
const REPEATED: u64 = 1_000_000;

/// Products per second, of floats or of bytes, by the level's multiply-add instruction alone, on registers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn products(level: Level, floats: bool) -> Option<Limit> {
    let (products, seconds, what) = match (level, floats) {
        (Level::Avx512(_), false) => (
            64,
            seconds!(REPEATED, "vpdpbusd zmm\\acc, zmm12, zmm13"),
            "vpdpbusd of 512 bits on registers",
        ),
        (Level::AvxVnni(_), false) => (
            32,
            seconds!(REPEATED, "{{vex}} vpdpbusd ymm\\acc, ymm12, ymm13"),
            "vpdpbusd of 256 bits on registers",
        ),
        (Level::Avx2(_), false) => (
            32,
            seconds!(
                REPEATED,
                "vpmaddubsw ymm14, ymm12, ymm13\nvpaddw ymm\\acc, ymm\\acc, ymm14"
            ),
            "vpmaddubsw and vpaddw on registers",
        ),
        (Level::Avx512(_), true) => (
            16,
            seconds!(REPEATED, "vfmadd231ps zmm\\acc, zmm12, zmm13"),
            "vfmadd231ps of 512 bits on registers",
        ),
        (Level::Avx2(_) | Level::AvxVnni(_), true) => (
            8,
            seconds!(REPEATED, "vfmadd231ps ymm\\acc, ymm12, ymm13"),
            "vfmadd231ps of 256 bits on registers",
        ),
        _ => return None,
    };
    Some(Limit {
        per_second: (12 * REPEATED * products) as f64 / seconds,
        what,
    })
}

/// Not known for other processors.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn products(_level: Level, _floats: bool) -> Option<Limit> {
    None
}
