//! `wasi:config` and `wasi:keyvalue`.

use crate::{Outcome, print};

wit_bindgen::generate!({ path: "wit", world: "stores", generate_all });

use wasi::config::store as config_store;
use wasi::keyvalue::{atomics, store as key_store};

pub(crate) fn config(key: &str) -> Outcome {
    let value = config_store::get(key)?;
    print(value.as_deref().unwrap_or("none"))
}

pub(crate) fn config_all() -> Outcome {
    let mut all = config_store::get_all()?;
    all.sort();
    all.into_iter().try_for_each(|(key, value)| print(&format!("{key}={value}")))
}

pub(crate) fn keyvalue() -> Outcome {
    let bucket = key_store::open("")?;
    let text =
        |value: Option<Vec<u8>>| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    print(&format!("at first {:?}", text(bucket.get("name")?)))?;
    bucket.set("name", b"value")?;
    print(&format!("set {:?}", text(bucket.get("name")?)))?;
    atomics::increment(&bucket, "count", 2)?;
    print(&format!("count {}", atomics::increment(&bucket, "count", 40)?))?;
    let mut keys = bucket.list_keys(None)?.keys;
    keys.sort();
    print(&format!("keys {keys:?}"))?;
    bucket.delete("name")?;
    print(&format!("deleted {:?}", text(bucket.get("name")?)))
}
