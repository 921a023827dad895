//! What status means: the causes of incidents. Pure.

pub mod causes;
mod group;
mod loss;
pub mod observed;
mod repair;
mod resync;
