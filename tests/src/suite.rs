//! The macros that instantiate one list of cases for several runtimes, and what runs a case over a player; used by the
//! tests' `main.rs`.

use anyhow::Result;

use crate::machine::Use;
use crate::player::Player;
use crate::runtime::Runtime;

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

/// Runs one case with a player for the runtime's shim.
#[track_caller]
pub fn play(runtime: Runtime, case: impl FnOnce(&Player) -> Result<()>) {
    play_with(Player::new(runtime), |player| case(player));
}

/// The same with another player. An error becomes a panic while the player still stands, so that it is printed with the
/// shims' log and before any leftovers.
#[track_caller]
pub fn play_with(player: Result<Player>, case: impl FnOnce(&mut Player) -> Result<()>) {
    let _machine = Use::shared();
    let mut player = match player {
        Ok(player) => player,
        Err(error) => panic!("no player: {error:?}"),
    };
    let runtime = player.runtime();
    if let Err(error) = case(&mut player) {
        panic!("{runtime:?}: {error:?}");
    }
}
