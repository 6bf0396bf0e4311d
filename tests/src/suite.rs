//! The macros that instantiate one list of cases for several runtimes, and what runs a case over a shim driver; used by the
//! tests' `main.rs`.

use anyhow::Result;

use crate::machine::Use;
use crate::runtime::Runtime;
use crate::shim_driver::ShimDriver;

/// Makes a module per runtime with a `#[test]` per case; a case is a function `MODULE::CASE`, seen from the
/// invocation, over [`Containers`](crate::Containers), or over what the function named first makes for it. A case that is
/// not listed is dead code, which the lints deny.
#[macro_export]
macro_rules! suite {
    ($($name:ident = $runtime:ident),*; $cases:tt) => {
        $($crate::suite!(@one $crate::check, $name $runtime $cases);)*
    };
    ($check:path: $($name:ident = $runtime:ident),*; $cases:tt) => {
        $($crate::suite!(@one $check, $name $runtime $cases);)*
    };
    (@one $check:path, $name:ident $runtime:ident { $($module:ident: $($case:ident)*;)* }) => {
        mod $name {
            $($(#[test]
            fn $case() {
                $check($crate::Runtime::$runtime, super::$module::$case);
            })*)*
        }
    };
}

/// Like [`suite!`], for cases over a [`ShimDriver`](crate::ShimDriver).
#[macro_export]
macro_rules! played {
    ($($name:ident = $runtime:ident),*; $cases:tt) => {
        $crate::suite! { $crate::run_case: $($name = $runtime),*; $cases }
    };
}

/// Runs one case with a shim driver for the runtime's shim.
#[track_caller]
pub fn run_case(runtime: Runtime, case: impl FnOnce(&ShimDriver) -> Result<()>) {
    run_case_with(ShimDriver::new(runtime), |shim_driver| case(shim_driver));
}

/// The same with another shim driver. An error becomes a panic while the shim driver still stands, so that it is printed with the
/// shims' log and before any leftovers.
#[track_caller]
pub fn run_case_with(
    shim_driver: Result<ShimDriver>,
    case: impl FnOnce(&mut ShimDriver) -> Result<()>,
) {
    let _machine = Use::shared();
    let mut shim_driver = match shim_driver {
        Ok(shim_driver) => shim_driver,
        Err(error) => panic!("no shim driver: {error:?}"),
    };
    let runtime = shim_driver.runtime();
    if let Err(error) = case(&mut shim_driver) {
        panic!("{runtime:?}: {error:?}");
    }
}
