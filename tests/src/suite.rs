//! The macros that instantiate one list of cases for several runtimes; used by the test files' `main.rs`.

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

/// Like [`suite!`], for cases over a [`Player`](crate::Player).
#[macro_export]
macro_rules! played {
    ($($name:ident = $runtime:ident),*; $cases:tt) => {
        $crate::suite! { $crate::play: $($name = $runtime),*; $cases }
    };
}
