//! Stands in for the crate of this name, whose list of public authorities sqlx adds to the roots it is given. The list is
//! empty: who is trusted is said by tidemark alone, for each connection (docs/adr/0005-no-roots-compiled-in.md).
#![no_std]

use rustls_pki_types::TrustAnchor;

pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];
