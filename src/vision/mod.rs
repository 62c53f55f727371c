//! stub
use crate::error::Result;
use std::collections::HashMap;
/// stub
#[derive(Clone, Debug)]
pub struct Preprocessing;
impl Preprocessing {
    /// stub
    pub fn for_model(_size: [usize; 2], _metadata: &HashMap<String, String>) -> Result<Preprocessing> {
        Ok(Preprocessing)
    }
}
/// stub
pub mod labels {
    /// stub
    pub fn labels(_n: usize) -> Option<&'static [&'static str]> {
        None
    }
}
