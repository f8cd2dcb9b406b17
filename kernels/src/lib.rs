//! SIMD kernels of gristmill.
