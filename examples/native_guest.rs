//! The guest of `engine-native`: a plain async Rust function with the commands of the image `wasmtest`.

use std::{io::Read, time::Duration};

use runwasi_core::{ExitStatus, InstanceSpec};

/// What the arguments say. Every command yields at its awaits, so that pause, kill and the meter work.
pub(crate) async fn run(spec: &InstanceSpec) -> anyhow::Result<ExitStatus> {
    let (words, io) = (spec.args.iter().skip(1).map(String::as_str).collect::<Vec<_>>(), &spec.stdio);
    let lines = |words: &[String]| words.iter().map(|word| format!("{word}\n")).collect::<String>();
    let environment: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (mut file, mut buffer) = (Vec::new(), [0; 8192]);
    match words[..] {
        [] => io.stdout.write_all(b"Hello from wasm!\n").await?,
        ["echo", ..] => io.stdout.write_all(format!("{}\n", words[1..].join(" ")).as_bytes()).await?,
        ["stderr", text] => io.stderr.write_all(format!("{text}\n").as_bytes()).await?,
        ["args", ..] => io.stdout.write_all(lines(&spec.args).as_bytes()).await?,
        ["env"] => io.stdout.write_all(lines(&environment).as_bytes()).await?,
        ["bytes", n] => io.stdout.write_all(&(0..251).cycle().take(n.parse()?).collect::<Vec<u8>>()).await?,
        ["cat", path] => drop(spec.rootfs.open(&spec.cwd.join(path))?.read_to_end(&mut file)?),
        ["cat"] => {
            while let n @ 1.. = io.stdin.read(&mut buffer).await? {
                io.stdout.write_all(&buffer[..n]).await?
            }
        }
        ["sleep", seconds] => tokio::time::sleep(Duration::from_secs_f64(seconds.parse()?)).await,
        ["daemon"] => loop {
            io.stdout.write_all(b"tick\n").await?;
            tokio::time::sleep(Duration::from_secs(1)).await
        },
        ["spin"] => loop {
            tokio::task::yield_now().await
        },
        ["exit", code] => return Ok(ExitStatus::code(code.parse()?)),
        _ => return Ok(ExitStatus::TRAP),
    }
    io.stdout.write_all(&file).await?;
    Ok(ExitStatus::SUCCESS)
}
