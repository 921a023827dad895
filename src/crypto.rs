//! Which cryptography TLS is made with: ring, throughout the process. The driver's way to AWS
//! brings another and names it; where nobody names one, rustls does not choose between two, but
//! panics.

/// To be called before TLS is made. What was named before, by us, stays.
pub fn name_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
