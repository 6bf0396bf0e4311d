//! What sandboxes and containers leave of the process's memory when they are gone: nothing. The
//! only test of this binary, since it counts every allocation there is.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicIsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use runwasi_core::{Engine, EngineError, Instance, InstanceSpec, testing::Harness};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Counts what lives.
struct Counting;

static ALLOCATIONS: AtomicIsize = AtomicIsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(allocations: isize, bytes: usize) {
    ALLOCATIONS.fetch_add(allocations, Relaxed);
    BYTES.fetch_add(allocations * bytes as isize, Relaxed);
}

// SAFETY: the system's allocator, with two counters beside it; `realloc` is the trait's own, made
// of the other two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size());
        // SAFETY: passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-1, layout.size());
        // SAFETY: passed on as it is.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One engine for all sandboxes, as a daemon has it.
struct Shared(Arc<WasmtimeEngine>);

#[async_trait]
impl Engine for Shared {
    async fn prepare(
        &self,
        spec: InstanceSpec,
    ) -> std::result::Result<Arc<dyn Instance>, EngineError> {
        self.0.prepare(spec).await
    }
}

const WARM_UP: usize = 10;
const SANDBOXES: usize = 50;

/// What each may add to tables that stay.
const MOST_BYTES: isize = 64;

/// In each sandbox: one that ends by itself, one that computes until it is killed, one that is
/// never started.
const ENDS: &str = r#"(module (func (export "_start")))"#;
const SPINS: &str = r#"(module (func (export "_start") (loop (br 0))))"#;

async fn sandbox(engine: &Arc<WasmtimeEngine>) -> Result {
    let harness = Harness::start(Shared(engine.clone()))?;
    let client = harness.client().await?;
    let create = async |id: &str, guest: &str| {
        let bundle = harness.bundle(id, &["/guest.wat"]).file("/guest.wat", guest).write()?;
        client.create(id, &bundle, &Default::default(), &[]).await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    create("ends", ENDS).await?;
    create("spins", SPINS).await?;
    create("never", SPINS).await?;
    client.start("ends").await?;
    client.start("spins").await?;
    client.kill("spins", 9).await?;
    for id in ["ends", "spins"] {
        client.wait(id).await?;
    }
    for id in ["ends", "spins", "never"] {
        client.delete(id).await?;
    }
    harness.stop().await;
    Ok(())
}

/// How long a thread without work stays, and longer than that.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(2500);

/// What lives once nothing has changed for so long that threads without work have left.
async fn settled() -> Result<(isize, isize)> {
    let mut last = (0, 0);
    for _ in 0..20 {
        let now = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
        if now == last {
            return Ok(now);
        }
        last = now;
        tokio::time::sleep(QUIET).await;
    }
    Err("it never stands still".into())
}

#[test]
fn sandboxes_that_came_and_went_leave_no_allocation() -> Result {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(2)
        .thread_keep_alive(KEEP_ALIVE)
        .enable_all()
        .build()?
        .block_on(compare())
}

async fn compare() -> Result {
    let engine = Arc::new(WasmtimeEngine::new(&Settings { cache: None, ..Settings::default() })?);
    for _ in 0..WARM_UP {
        sandbox(&engine).await?;
    }
    let before = settled().await?;
    for _ in 0..SANDBOXES {
        sandbox(&engine).await?;
    }
    let after = settled().await?;
    let (allocations, bytes) = (after.0 - before.0, after.1 - before.1);
    println!(
        "{} allocations, {} bytes before; {allocations} and {bytes} more after",
        before.0, before.1
    );
    // What a sandbox leaves for ever would be there fifty times; a table that has grown once is
    // not.
    assert!(allocations < SANDBOXES as isize, "{allocations} allocations more, {bytes} bytes");
    assert!(
        bytes < MOST_BYTES * SANDBOXES as isize,
        "{allocations} allocations more, {bytes} bytes"
    );
    Ok(())
}
