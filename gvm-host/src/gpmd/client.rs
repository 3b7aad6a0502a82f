//! STUB for checking only.
use std::sync::Arc;
use crate::{error::Result, gpmd::index::Index, home::Home, id::*};
pub struct Link;
pub enum LinkEvent { Index(Arc<Index>), Lost, Back(Arc<Index>) }
impl Link {
    pub async fn connect(_: &Home, _: Applicant) -> Result<(Link, tokio::sync::mpsc::Receiver<LinkEvent>)> { loop {} }
    pub fn index(&self) -> Arc<Index> { loop {} }
    pub fn node(&self) -> NodeInfo { loop {} }
    pub async fn discover(&self) -> Result<Vec<NodeInfo>> { loop {} }
    pub async fn look_up(&self, _: &Name) -> Result<NodeInfo> { loop {} }
    pub async fn finish(&self) { loop {} }
}
