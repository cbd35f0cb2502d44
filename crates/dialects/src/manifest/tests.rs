//! Tests of manifest reading.
