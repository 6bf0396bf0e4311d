//! The part of an instance that its one run takes.

use super::error::EngineError;
use crate::lock::Mutex;

/// A value for `Instance::run`, which borrows its instance and is called once: the store of an
/// interpreter, for example.
#[derive(Debug)]
pub struct Prepared<T>(Mutex<Option<T>>);

impl<T> Prepared<T> {
    /// Keeps a value for the run.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    /// Takes the value. A second call is an error.
    pub fn take(&self) -> Result<T, EngineError> {
        let value = self.0.lock().take();
        value.ok_or_else(|| EngineError::Failed("an instance runs once".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_taken_once() {
        let prepared = Prepared::new(7);
        assert_eq!(prepared.take().unwrap(), 7);
        assert_eq!(prepared.take().unwrap_err().to_string(), "an instance runs once");
    }
}
