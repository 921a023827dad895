//! What status means: the causes of incidents. Pure.

pub mod causes;
mod loss;
pub mod observed;
mod resync;
