//! The macro that instantiates one list of cases for several runtimes; used by the test files' `main.rs`.

/// Makes a module per runtime with a `#[test]` per case; a case is a function `MODULE::CASE`, seen from the
/// invocation, over [`Containers`](crate::Containers). A case that is not listed is dead code, which the lints deny.
#[macro_export]
macro_rules! suite {
    ($($name:ident = $runtime:ident),*; $cases:tt) => {
        $($crate::suite!(@one $name $runtime $cases);)*
    };
    (@one $name:ident $runtime:ident { $($module:ident: $($case:ident)*;)* }) => {
        mod $name {
            $($(#[test]
            fn $case() {
                $crate::check($crate::Runtime::$runtime, super::$module::$case);
            })*)*
        }
    };
}
