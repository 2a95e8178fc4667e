//! A store whose calls pass through an interceptor, which may count, measure or replace them.

mod ports;

use std::future::Future;

use crate::Storage;
use crate::error::StorageError;
use crate::port_method::PortMethod;

/// An interceptor of storage calls.
pub trait CallInterceptor: Clone + Send + Sync + 'static {
    /// Makes one call, or something else in its place. `call` does nothing before it is awaited.
    fn call<T: Send>(
        &self,
        method: PortMethod,
        call: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> impl Future<Output = Result<T, StorageError>> + Send;
}

/// A store whose every call passes through an interceptor. Clones share store and interceptor.
#[derive(Clone, Debug)]
pub struct Intercepted<S, I> {
    pub(crate) store: S,
    pub(crate) interceptor: I,
}

impl<S: Storage, I: CallInterceptor> Storage for Intercepted<S, I> {}

impl<S, I> Intercepted<S, I> {
    /// Adds an interceptor to a store.
    pub const fn with_interceptor(store: S, interceptor: I) -> Self {
        Self { store, interceptor }
    }

    /// Returns the store without the interceptor.
    pub const fn inner(&self) -> &S {
        &self.store
    }
}
