//! The example `host-function`, run as a program.

use std::process::Command;

#[test]
fn both_kinds_of_guests_call_the_embedders_function() -> std::io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_host-function")).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        stdout.lines().collect::<Vec<_>>(),
        ["module: ended with 2, its number of calls", "component: ended with 0"]
    );
    Ok(())
}
