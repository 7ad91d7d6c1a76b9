//! What is left of a tracer in the kernel.
