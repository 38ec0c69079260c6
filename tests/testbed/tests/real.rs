//! The suite on the real control plane.
