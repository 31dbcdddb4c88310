//! Run folders: formats with version and schema, and the reading and writing of them. Computes nothing.

pub mod format;
