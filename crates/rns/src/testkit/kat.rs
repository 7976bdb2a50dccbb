//! x
use super::trials::List;
use crate::Backend;
pub(super) fn list<B: Backend>(_list: &mut List<B>) {}
